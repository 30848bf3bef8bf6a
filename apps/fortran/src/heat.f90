! Heat in a plate: OpenMP in loops, sections, tasks and critical regions, checked against
! what one thread computes; then files of every kind that Fortran has.
program heat
  use, intrinsic :: iso_fortran_env, only: int64, real64
  use, intrinsic :: ieee_arithmetic
  use omp_lib
  implicit none
  integer, parameter :: n = 192, steps = 60
  real(real64), allocatable :: alone(:,:), together(:,:)
  integer :: threads

  call get_threads(threads)
  print '(a,i0)', 'threads ', threads
  alone = plate()
  together = alone
  call omp_set_num_threads(1)
  call diffuse(alone)
  call omp_set_num_threads(threads)
  call diffuse(together)
  print '(a,f0.6)', 'the same heat ', maxval(abs(alone - together))
  print '(a,f0.4,a,f0.4)', 'mean ', sum(together)/size(together), ' near the corner ', together(9, 9)
  call reductions()
  call tasks()
  call locks()
  call files(together)
  call ieee()
  error stop 7

contains

  ! The number that a team has really.
  subroutine get_threads(k)
    integer, intent(out) :: k
    k = 0
    !$omp parallel reduction(+:k)
    k = k + 1
    !$omp end parallel
  end subroutine

  function plate() result(p)
    real(real64), allocatable :: p(:,:)
    allocate(p(n, n), source=0.0_real64)
    p(:, 1) = 100
    p(1, :) = 50
  end function

  subroutine diffuse(p)
    real(real64), intent(inout) :: p(:,:)
    real(real64), allocatable :: q(:,:)
    integer :: i, j, s
    allocate(q, source=p)
    do s = 1, steps
      !$omp parallel do collapse(2) schedule(dynamic, 512)
      do j = 2, n - 1
        do i = 2, n - 1
          q(i, j) = 0.25_real64*(p(i-1, j) + p(i+1, j) + p(i, j-1) + p(i, j+1))
        end do
      end do
      !$omp end parallel do
      !$omp parallel workshare
      p = q
      !$omp end parallel workshare
    end do
  end subroutine

  subroutine reductions()
    integer :: i, most
    integer(int64) :: total
    total = 0
    most = 0
    !$omp parallel do reduction(+:total) reduction(max:most) schedule(guided)
    do i = 1, 200000
      total = total + int(i, int64)**2
      most = max(most, mod(i*37, 1009))
    end do
    !$omp end parallel do
    print '(a,i0,1x,i0)', 'sum of squares ', total, most
  end subroutine

  recursive function fib(k) result(f)
    integer, intent(in) :: k
    integer :: f, a, b
    if (k < 2) then
      f = k
      return
    end if
    !$omp task shared(a) if(k > 12)
    a = fib(k - 1)
    !$omp end task
    !$omp task shared(b) if(k > 12)
    b = fib(k - 2)
    !$omp end task
    !$omp taskwait
    f = a + b
  end function

  subroutine tasks()
    integer :: f, who(2)
    !$omp parallel
    !$omp single
    f = fib(18)
    !$omp end single
    !$omp end parallel
    print '(a,i0)', 'tasks ', f
    who = 0
    !$omp parallel sections
    !$omp section
    who(1) = 1
    !$omp section
    who(2) = 2
    !$omp end parallel sections
    print '(a,2(1x,i0))', 'sections', who
  end subroutine

  subroutine locks()
    integer(omp_lock_kind) :: lock
    integer :: i, guarded, critical, atomic, ordered(40), next
    call omp_init_lock(lock)
    guarded = 0
    critical = 0
    atomic = 0
    next = 0
    !$omp parallel do ordered schedule(static, 1)
    do i = 1, 40
      call omp_set_lock(lock)
      guarded = guarded + i
      call omp_unset_lock(lock)
      !$omp critical
      critical = critical + i
      !$omp end critical
      !$omp atomic
      atomic = atomic + i
      !$omp ordered
      next = next + 1
      ordered(next) = i
      !$omp end ordered
    end do
    !$omp end parallel do
    call omp_destroy_lock(lock)
    print '(a,3(1x,i0),a,l1)', 'locks', guarded, critical, atomic, ' in order ', all(ordered == [(i, i=1, 40)])
  end subroutine

  subroutine files(p)
    real(real64), intent(in) :: p(:,:)
    real(real64) :: column(n), back(n, n)
    character(len=80) :: line, message
    integer :: u, i, status, bytes
    open(newunit=u, file='/tmp/plate.bin', form='unformatted', access='direct', recl=8*n, action='readwrite', status='replace')
    do i = n, 1, -1
      write(u, rec=i) p(:, i)
    end do
    do i = 1, n
      read(u, rec=i) column
      back(:, i) = column
    end do
    close(u)
    inquire(file='/tmp/plate.bin', size=bytes)
    print '(a,i0,1x,l1)', 'direct ', bytes, all(back == p)
    open(newunit=u, file='/tmp/plate.txt', action='write', status='new')
    do i = 1, 5
      write(u, '(i3,2f12.4)') i, p(i, 2), p(2, i)
    end do
    close(u)
    open(newunit=u, file='/tmp/plate.txt', action='readwrite', position='append')
    backspace(u)
    read(u, '(a)') line
    print '(a,a)', 'last line', trim(line)
    close(u, status='delete')
    open(newunit=u, file='/tmp/plate.txt', action='read', status='old', iostat=status, iomsg=message)
    print '(a,l1,a)', 'gone ', status /= 0, ' '//trim(message)
    call execute_command_line('exit 3', exitstat=status)
    print '(a,i0)', 'command ', status
  end subroutine

  subroutine ieee()
    real(real64), volatile :: zero, x ! not computed by the compiler
    logical :: flag
    zero = 0*command_argument_count()
    call ieee_set_halting_mode(ieee_divide_by_zero, .false.)
    x = 1/zero
    call ieee_get_flag(ieee_divide_by_zero, flag)
    print '(a,l1,1x,l1)', 'divided by zero ', flag, .not. ieee_is_finite(x)
    call ieee_set_flag(ieee_all, .false.)
  end subroutine
end program
