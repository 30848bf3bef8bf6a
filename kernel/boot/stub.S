# The boot stub: PVH entry (Xen "x86/HVM direct boot ABI"), 32-bit, flat segments,
# paging off, EBX = physical address of hvm_start_info. Loaded at physical 1 MiB.
#
# It checks that the machine has the memory the image needs before it touches
# anything beyond itself, builds the first page tables (identity and -2 GiB, both
# of physical 0-1 GiB), enters long mode and jumps to the kernel's 64-bit entry
# with RDI = BootBlock and RSI = hvm_start_info. GNU as, no libc, no relocation:
# `go generate` makes stub.bin with it.

        .code32
        .section .text
        .globl _start

        .set BASE, 0x100000

# The first bytes are image.BootBlock (kernel/image/layout.go); mkkernel fills
# the words after it (kernel/image/link.go, stub words).
_start:
blk:    .ascii "KILNBOOT"
imgphys:.quad 0
imgend: .quad 0
minram: .quad 0
kernend:.quad 0
entry:  .quad 0                 # 40: kernel entry, virtual
        .fill 18, 8, 0          # 48: segment table, read by the base

        .org 0xc0
pvh:    cld
        cli
        movl    $stacktop, %esp
        movl    %ebx, %ebp              # hvm_start_info
        cmpl    $0x336ec578, (%ebx)
        jne     nomap
        cmpl    $1, 4(%ebx)             # version 1 has the memory map
        jb      nomap
        movl    48(%ebx), %ecx          # entries
        movl    40(%ebx), %esi          # table
        testl   %ecx, %ecx
        jz      nomap
        xorl    %eax, %eax              # EDX:EAX = bytes of RAM in all
        xorl    %edx, %edx
        movl    $0, ok
1:      cmpl    $1, 16(%esi)            # type 1 = RAM
        jne     3f
        addl    8(%esi), %eax
        adcl    12(%esi), %edx
        # Does this region hold [1 MiB, ImageEnd)?
        cmpl    $0, 4(%esi)
        jne     3f
        cmpl    $BASE, (%esi)
        ja      3f
        pushl   %eax
        pushl   %edx
        movl    (%esi), %eax
        xorl    %edx, %edx
        addl    8(%esi), %eax           # EDX:EAX = region end
        adcl    12(%esi), %edx
        subl    imgend, %eax
        sbbl    imgend+4, %edx
        jb      2f
        movl    $1, ok
2:      popl    %edx
        popl    %eax
3:      addl    $24, %esi
        loop    1b
        # Firmware keeps up to 2 MiB for itself; count it as there.
        addl    $0x1fffff, %eax
        adcl    $0, %edx
        andl    $0xffe00000, %eax
        pushl   %eax
        pushl   %edx
        subl    minram, %eax
        sbbl    minram+4, %edx
        popl    %edx
        popl    %eax
        jb      toosmall
        cmpl    $0, ok
        je      toosmall

# ---- page tables --------------------------------------------------------------
        # PML4[0] and PML4[511] -> PDPT; PDPT[0] and PDPT[510] -> PD; PD = 512 x 2 MiB.
        movl    $pml4, %edi
        xorl    %eax, %eax
        movl    $(3*1024), %ecx
        rep stosl
        movl    $(pdpt + 3), pml4
        movl    $(pdpt + 3), pml4 + 511*8
        movl    $(pd + 3), pdpt
        movl    $(pd + 3), pdpt + 510*8
        movl    $pd, %edi
        movl    $0x83, %eax
        movl    $512, %ecx
4:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x200000, %eax
        loop    4b

        # From here on the other CPUs, with EBP = 0, take the same way.
paging: movl    %cr4, %eax
        orl     $0x620, %eax            # PAE, OSFXSR, OSXMMEXCPT
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       # EFER: LME, NXE, SCE
        rdmsr
        orl     $0x901, %eax
        wrmsr
        movl    %cr0, %eax
        andl    $0x9ffffff3, %eax       # caches on; EM and TS off
        orl     $0x80010023, %eax       # PG, WP, NE, MP, PE
        movl    %eax, %cr0
        lgdt    gdtr
        ljmp    $8, $long

        .code64
long:   xorl    %eax, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %eax, %fs
        movl    %eax, %gs
        testl   %ebp, %ebp
        jz      ap64
        movl    $BASE, %edi
        movl    %ebp, %esi
        movq    entry, %rax
        movl    $stacktop, %esp
        jmp     *%rax

        .code32
# ---- the two ways not to boot -----------------------------------------------
nomap:  movl    $msgmap, %esi
        call    puts
        jmp     die

toosmall:
        # EDX:EAX = bytes there are.
        pushl   %edx
        pushl   %eax
        movl    $msg1, %esi
        call    puts
        movl    minram, %eax
        movl    minram+4, %edx
        addl    $0xfffff, %eax
        adcl    $0, %edx
        call    putmib
        movl    $msg2, %esi
        call    puts
        popl    %eax
        popl    %edx
        call    putmib
        movl    $msg3, %esi
        call    puts
die:    # ACPI S5 as QEMU's pc, q35 (PM1a control 0x604) have it is the kernel's
        # business; a reset is what every PC understands. QEMU with -no-reboot ends.
        movb    $0xfe, %al
        outb    %al, $0x64
        movl    $1000000, %ecx
5:      pause
        loop    5b
        lidt    idtr0                   # triple fault
        int3
6:      hlt
        jmp     6b

# putmib prints EDX:EAX bytes as MiB, decimal.
putmib: shrdl   $20, %edx, %eax
        movl    $10, %ebx
        xorl    %ecx, %ecx
7:      xorl    %edx, %edx
        divl    %ebx
        addl    $'0', %edx
        pushl   %edx
        incl    %ecx
        testl   %eax, %eax
        jnz     7b
8:      popl    %eax
        call    putc
        loop    8b
        ret

puts:   lodsb
        testb   %al, %al
        jz      9f
        call    putc
        jmp     puts
9:      ret

# putc writes AL to the first serial port; it waits a bounded time for room.
putc:   pushl   %ecx
        pushl   %edx
        movb    %al, %ah
        movl    $0x10000, %ecx
        movw    $0x3fd, %dx
10:     inb     %dx, %al
        testb   $0x20, %al
        jnz     11f
        loop    10b
11:     movw    $0x3f8, %dx
        movb    %ah, %al
        outb    %al, %dx
        popl    %edx
        popl    %ecx
        ret

msg1:   .asciz  "kiln: this image needs "
msg2:   .asciz  " MiB of memory, the machine has "
msg3:   .asciz  " MiB\r\n"
msgmap: .asciz  "kiln: the boot loader gave no memory map\r\n"

        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      # 64-bit code
        .quad   0x00cf9b000000ffff      # 32-bit code
        .quad   0x00cf93000000ffff      # data
gdtr:   .word   31
        .long   gdt
        .balign 4
idtr0:  .word   0
        .long   0

# ---- the other CPUs ------------------------------------------------------------
# The base copies the 64 bytes from ap16 to a page below 1 MiB and sends that page's
# number (kernel/metal/ap.go); a CPU starts there in real mode (SDM 3A 9.4). What it is
# to become lies in the words at apcr3; it takes apcpu, so that a CPU which comes when
# nobody waits for it any more finds 0 and stays here.
        .org    0x400
        .code16
ap16:   cli
        cld
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   apgdtr - ap16
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $0x10, $ap32
        .balign 4
apgdtr: .word   31
        .long   gdt

        .org    0x440
apcr3:  .quad   0                       # page table of the kernel
apentry:.quad   0                       # metal.apStart
apcpu:  .quad   0                       # the CPU's area, both virtual

        .code32
ap32:   movl    $0x18, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %ebp, %ebp
        jmp     paging

        .code64
ap64:   xorl    %edi, %edi
        xchgq   %rdi, apcpu
        testq   %rdi, %rdi
        jz      12f
        movq    apcr3, %rsi
        movq    apentry, %rax
        jmp     *%rax
12:     cli
        hlt
        jmp     12b

        .globl  filend
filend:
# ---- beyond the file, inside the segment's memory size -------------------------
        .set    ok, 0x101000
        .set    stacktop, 0x103000
        .set    pml4, 0x104000
        .set    pdpt, 0x105000
        .set    pd,   0x106000
