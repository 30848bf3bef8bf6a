# A case for each applet of Debian's busybox-static that means something on a machine, after
# a line "## NAME". Each runs in an empty folder of its own (/tmp/w) with busybox's own shell and
# busybox's applets alone in PATH; what it prints and its status must be what they are on Linux.
# The shell says how a job that it waits for ended unless it has seen that before, which is a race on
# Linux too: that goes to /dev/null.
# Numbers that may differ (pids, times, addresses, sizes of the machine) are masked here, by name.
## [
[ -d /tmp ] && echo dir; [ -f /tmp ]; echo $?; [ 3 -lt 4 ] && echo lt; [ -r /etc/passwd -a -x /bb/sh ] && echo rx
## [[
[[ abc == a* ]] && echo match; [[ abc == b* ]]; echo $?
## acpid
acpid -c /nonexistent -e /nonexistent -f; echo $?
## adjtimex
adjtimex | sed 's/[-0-9][0-9]*/N/g' | grep -c :; adjtimex | grep -o 'tick:'
## ar
printf '!<arch>\n%-16s%-12s%-6s%-6s%-8s%-10s`\n' a 0 0 0 100644 4 >x.a; echo one >>x.a; ar t x.a; ar x x.a; cat a; ar p x.a a; ar v x.a; echo $?
## arch
arch
## arp
arp; arp -a; arp -n -i lo; echo $?
## arping
arping -c 1 -w 1 -I lo 127.0.0.1 2>&1 | head -1; arping -c 1 -I none 127.0.0.1; echo $?
## ascii
ascii | md5sum
## ash
ash -c 'f() { local x=$1; echo $((x*2)); }; f 21; set -e; trap "echo bye" EXIT; case abc in a*) echo a;; esac; for i in 1 2 3; do echo $i; done | while read n; do echo "<$n>"; done'
ash -c 'cat <<EOT
here $((1+1)) ${HOME}
EOT
x=abcdef; echo ${x#ab} ${x%ef} ${#x} ${x/cd/--} ${y:-none}; (exit 3); echo $?; false || echo or; wait; echo $-' 
ash -c 'sleep 0.1 & wait $!; echo $?; kill -TERM $$ '; echo $?
ash -c 'ulimit -n 100; ulimit -n; ulimit -c 0; umask 027; umask; >f; stat -c %a f; read -t 0.1 x </dev/zero; echo $?; exec 3<>f; echo hi >&3; cat f; type cd; command -v true; getopts ab: o -b x; echo $o $OPTARG; times | wc -l'
## awk
printf 'a 1\nb 2\nc 3\n' | awk '{s+=$2; n[$1]=$2} END {print s, n["b"], length("xyz"), substr("hello",2,3); printf "%05.2f|%x|%s\n", 3.14159, 255, "s"; "echo sub" | getline v; print v; print toupper("up"), int(7/2); gsub(/l/,"L",v); system("echo sys"); while ((getline line < "/etc/group") > 0) c++; print c}'
## base64
echo hello world | base64; echo aGVsbG8K | base64 -d; head -c 100 /dev/zero | base64 -w 20
## basename
basename /a/b/c.txt; basename /a/b/c.txt .txt; basename /
## bc
echo '2^64; scale=10; 1/3; sqrt(2); define f(x){return x*x}; f(12)' | bc; echo 'ibase=16; FF' | bc -l
## blkdiscard
blkdiscard /dev/null; echo $?
## blockdev
blockdev --getsz /dev/null; echo $?
## bunzip2
seq 100 >f; bzip2 f; ls; bunzip2 f.bz2; md5sum f
## busybox
busybox | head -1 | cut -c1-7; busybox --list | wc -l; busybox nosuch; echo $?
## bzcat
seq 10 | bzip2 -c >f.bz2; bzcat f.bz2
## bzip2
seq 1000 | bzip2 -9 | bzip2 -d | md5sum; echo bad | bzip2 -d; echo $?
## cal
cal 2 2024; cal -j 1 2023
## cat
echo x >f; cat f - </etc/hostname; printf 'a\tb\n\n\nc' | cat -A; cat nosuch; echo $?; cat .; echo $?; printf 'a\nb\n' | cat -n
## chgrp
>f; chgrp daemon f; stat -c '%u %g %G' f; chgrp 1234 f; stat -c %g f; chgrp nosuch f; echo $?
## chmod
>f; chmod 640 f; stat -c %a f; chmod u+s,g=rx,o-rwx f; stat -c %A f; mkdir -p d/e; chmod -R 700 d; stat -c %a d/e; chmod 1777 d; stat -c %A d; ln -s f l; chmod 600 l; stat -c %a f l; chmod 600 nosuch; echo $?
## chown
>f; chown nobody:daemon f; stat -c '%U %G' f; chown 10:20 f; stat -c '%u %g' f; ln -s f l; chown -h 5 l; stat -c %u l f; chmod 4755 f; chown 1 f; stat -c %a f; chown nosuch f; echo $?
## chroot
mkdir -p r/bin; cp /bin/busybox r/bin/; chroot r /bin/busybox ls /; chroot r /bin/nosuch; echo $?; chroot nosuch; echo $?
## chvt
chvt 1; echo $?
## clear
clear | hexdump -C
## cmp
echo abc >a; echo abd >b; cmp a b; echo $?; cmp -l a b; cmp -s a a; echo $?; cmp a nosuch; echo $?
## cp
echo x >a; chmod 640 a; cp a b; cat b; mkdir d; ln -s a l; mkfifo p; cp -a a l p d; ls -l d | cut -c1-10; cp -r d e; ls e; cp d f; echo $?; cp -p a g; stat -c %a g; touch -d '2001-02-03 04:05:06' a; cp -p a h; stat -c %y h; cp -s /etc/passwd pl; readlink pl; cp -l a hard; stat -c %h a; cp a nosuch/; echo $?; dd if=/dev/zero of=big bs=1M count=3 2>/dev/null; cp big big2; cmp big big2; echo $?
## cpio
mkdir d; echo x >d/a; ln d/a d/b; ln -s a d/l; find d | sort | cpio -o -H newc >x.cpio 2>/dev/null; mkdir o; cd o; cpio -id <../x.cpio; find . | sort; stat -c %h d/a; cpio -tv <../x.cpio 2>/dev/null | awk '{print $1,$2,$NF}'
## crc32
echo hello >f; crc32 f
## crond
mkdir -p c /var/spool/cron; crond -c c -f -l 8 -L log & sleep 0.3; kill $! 2>&1 | sed 's/pid [0-9]*/pid N/'; wait $! 2>/dev/null; echo $?; grep -o 'crond.*started' log | head -1
## crontab
mkdir -p /var/spool/cron/crontabs; echo '* * * * * true' | crontab -; crontab -l; crontab -r; crontab -l; echo $?
## cttyhack
cttyhack sh -c 'echo in'; echo $?
## cut
printf 'a:b:c\nd:e:f\n' | cut -d: -f2-; echo abcdef | cut -c2-4,6; printf 'nodelim\n' | cut -d: -f1 -s
## date
date -u -d '2024-02-29 12:34:56' +'%Y-%m-%d %H:%M:%S %j %a %b %s'; date -u -d @0; TZ=EST5EDT date -d @1700000000 '+%F %T %Z'; date -u -r /etc/hostname +%Y | wc -c; date -d garbage; echo $?; now=$(date +%s); [ $now -gt 1700000000 ] && echo after
## dc
echo '2 3 + p 10 k 2 v p [Hello]p 16 o 255 p' | dc
## dd
dd if=/dev/zero of=f bs=1k count=4 2>&1 | head -2; stat -c %s f; echo abcdefgh >g; dd if=g bs=1 skip=2 count=3 2>/dev/null; echo; echo XY | dd of=g bs=1 seek=1 count=2 conv=notrunc 2>/dev/null; cat g; dd if=/dev/zero of=s bs=1 count=1 seek=1M 2>/dev/null; stat -c %s s; echo ab | dd conv=swab 2>/dev/null; dd if=nosuch; echo $?; yes | dd bs=4k count=10 iflag=fullblock 2>/dev/null | md5sum; dd if=/dev/zero of=/dev/full bs=1 count=1 2>&1 | head -1
## deallocvt
deallocvt 63; echo $?
## devmem
devmem 0x0 2>&1 | head -1 | cut -c1-20
## df
df / | head -1; df -h /tmp | awk 'NR==2 {print $NF}'; df -i /tmp | awk 'NR==1'; df nosuch; echo $?; df -P -T /tmp | awk 'NR==1 {print NF}'
## diff
printf 'a\nb\nc\n' >x; printf 'a\nB\nc\nd\n' >y; diff x y; echo $?; diff -u x y | tail -n +3; mkdir d e; echo 1 >d/f; echo 2 >e/f; >d/only; diff -r d e; diff -q x y; diff x x; echo $?; diff x nosuch; echo $?
## dirname
dirname /a/b/c; dirname a; dirname /
## dmesg
dmesg >f; echo $?; [ -f f ] && echo there
## dnsdomainname
dnsdomainname; echo $?
## dos2unix
printf 'a\r\nb\r\n' >f; dos2unix f; hexdump -C f
## dpkg
dpkg -l 2>&1 | head -3; dpkg -i nosuch.deb 2>&1 | head -1
## dpkg-deb
echo 2.0 >debian-binary; mkdir c r; echo 'Package: x' >c/control; tar -czf control.tar.gz -C c control; echo hi >r/f; tar -czf data.tar.gz -C r f; m() { printf '%-16s%-12s%-6s%-6s%-8s%-10s`\n' $1 0 0 0 100644 $(stat -c %s $1); cat $1; [ $(($(stat -c %s $1)%2)) = 0 ] || echo; }; (printf '!<arch>\n'; m debian-binary; m control.tar.gz; m data.tar.gz) >x.deb; dpkg-deb -f x.deb; dpkg-deb -c x.deb | awk '{print $NF}'; dpkg-deb -x x.deb out; cat out/f
## du
mkdir d; dd if=/dev/zero of=d/f bs=4k count=10 2>/dev/null; du -k d/f; du -s d | cut -f2; du -a d | cut -f2 | sort; du nosuch; echo $?; dd if=/dev/zero of=sp bs=1 count=0 seek=1M 2>/dev/null; du -k sp
## dumpkmap
dumpkmap </dev/null >f; echo $?
## dumpleases
dumpleases -f nosuch; echo $?
## echo
echo -e 'a\tb\x41'; echo -n x; echo; echo a  b
## ed
printf 'a\nhello\nworld\n.\n1,2p\ns/o/0/\nw f\nq\n' | ed; cat f
## egrep
printf 'ab\nac\nbd\n' | egrep 'a(b|c)'; echo x | egrep y; echo $?
## env
env -i A=1 B=2 env | sort; env -u HOME sh -c 'echo ${HOME-unset}'; env nosuch; echo $?
## expand
printf 'a\tb\tc\n' | expand -t 4
## expr
expr 2 + 3 \* 4; expr abc : 'a\(.\)c'; expr length hello; expr 5 \> 7; echo $?; expr substr hello 2 3; expr 1 / 0; echo $?
## factor
factor 60 97 1000000007
## fallocate
fallocate -l 64k f; stat -c '%s %b' f; fallocate -l 10 -o 100k f; stat -c %s f; fallocate -l 10 /dev/null; echo $?
## false
false; echo $?
## fatattr
>f; fatattr f; echo $?
## fdisk
dd if=/dev/zero of=disk bs=1M count=8 2>/dev/null; printf 'n\np\n1\n\n\nw\n' | fdisk disk >/dev/null 2>&1; fdisk -l disk | tail -1 | awk '{print $1}'; hexdump -C disk | grep '55 aa' | head -1
## fgrep
printf 'a.b\naxb\n' | fgrep a.b
## find
mkdir -p a/b/c; >a/f; >a/b/g.txt; ln -s f a/l; chmod 600 a/f; find a | sort; find a -type f -name '*.txt'; find a -type l -exec readlink {} \;; find a -perm 600; find a -mindepth 2 -maxdepth 2 | sort; find a -empty -type d; find a -size 0 | sort; find a -user root -type d | sort; find a -name g.txt -exec rm {} \;; find a -type f; find nosuch; echo $?; find a -print0 | tr '\0' '\n' | sort | tail -1; find a -links 1 | sort; find a -type f -exec sh -c 'echo $@' x {} +
## findfs
findfs LABEL=nosuch; echo $?
## fold
echo abcdefghij | fold -w 4; echo 'aa bb cc dd' | fold -s -w 6
## free
free | awk '{print $1}'; free -m | awk 'NR==2 {print ($2>0 && $3>0 && $2>=$3+$4)}'
## freeramdisk
freeramdisk /dev/null; echo $?
## fsfreeze
fsfreeze --freeze /tmp; echo $?
## fstrim
fstrim /tmp; echo $?
## ftpget
ftpget 127.0.0.1 f f; echo $?
## ftpput
>f; ftpput 127.0.0.1 f f; echo $?
## getopt
getopt -o ab: -l long,arg: -- -a -b x --long --arg=y z; getopt -o a -- -z; echo $?
## getty
getty 0 nosuchtty; echo $?
## grep
printf 'one\ntwo\nthree\nONE\n' >f; grep -n t f; grep -c o f; grep -i one f; grep -v t f; grep -o 'e*' f; grep -q two f; echo $?; grep -l two f; grep zzz f; echo $?; mkdir d; cp f d; grep -r two d; grep -A1 one f; grep -w one f; grep -E 'o(n|x)e' f; grep x nosuch; echo $?; grep -f f f | wc -l; grep -m1 o f
## groups
groups; groups nobody; groups nosuch; echo $?
## gunzip
seq 100 >f; gzip f; gunzip f.gz; md5sum f; printf bad >b.gz; gunzip b.gz; echo $?
## gzip
seq 1000 | gzip -9 | gzip -d | md5sum; seq 10 >f; gzip -k f; ls; gzip -t f.gz; echo $?
## head
seq 20 | head -n 3; seq 20 | head -c 5; echo; seq 5 | head -n -2; head -n1 /etc/passwd /etc/group
## hexdump
printf 'hello\0world' | hexdump -C; printf abc | hexdump; printf abcdef | hexdump -e '2/1 "%02x " "\n"'
## hostid
hostid | wc -c
## hostname
hostname newname; hostname; hostname kiln; hostname -s; echo fromfile >f; hostname -F f; hostname; hostname kiln; hostname -i
## httpd
mkdir w; echo page >w/index.html; httpd -p 127.0.0.1:8081 -h w -f & sleep 0.3; wget -q -O - http://127.0.0.1:8081/; wget -q -O - http://127.0.0.1:8081/nosuch; echo $?; kill $!
## hwclock
hwclock -f /dev/nosuch; echo $?
## i2cdetect
i2cdetect -l; echo $?
## id
id; id -u; id -Gn; id nobody; setpriv --reuid 1000 true 2>/dev/null; id nosuch; echo $?; id -un
## ifconfig
ifconfig lo | sed 's/[RT]X packets.*/PKTS/; s/RX bytes.*/BYTES/'; ifconfig lo mtu 1500; ifconfig lo | grep -o 'MTU:[0-9]*'; ifconfig lo mtu 65536; ifconfig lo:1 127.0.0.5 netmask 255.255.255.0; ifconfig lo:1 | grep -o 'inet addr:[0-9.]*'; ip addr flush dev lo to 127.0.0.5; ifconfig nosuch; echo $?; ifconfig lo down; ifconfig lo | grep -c UP; ifconfig lo up; ifconfig lo | grep -c UP
## ifdown
ifdown -i nosuch lo; echo $?
## ifup
mkdir -p /var/run /run; printf 'iface x inet manual\n up echo up\n' >i; ifup -n -i i x; echo $?
## insmod
insmod nosuch.ko; echo $?
## ionice
ionice -c 2 -n 5 sh -c 'ionice'; ionice -c 3 ionice -p $$; ionice
## ip
ip -o link show lo | sed 's/qdisc [a-z]*/QDISC/; s/qlen [0-9]*//'; ip addr flush dev lo to 127.0.0.5; ip -4 -o addr show lo; ip addr add 10.9.8.7/24 dev lo; ip -4 addr show lo | grep -c inet; ip addr del 10.9.8.7/24 dev lo; ip route; ip route add 10.77.0.0/16 dev lo; ip route; ip route del 10.77.0.0/16; ip link set lo down; ip link set lo up; ip neigh; ip rule | head -3; ip addr show nosuch; echo $?; ip route get 127.0.0.1 2>&1 | head -1
## ipcalc
ipcalc -b -n -m -p 192.168.3.77/22
## ipneigh
ipneigh; echo $?
## kill
sleep 100 & kill $!; wait $! 2>/dev/null; echo $?; kill -l 9; kill -l | head -3; kill -0 $$; echo $?; kill 999999; echo $?; sleep 100 & kill -STOP $!; sleep 0.1; cut -d' ' -f3 /proc/$!/stat; kill -CONT $!; sleep 0.1; cut -d' ' -f3 /proc/$!/stat; kill -9 $!; wait $! 2>/dev/null; echo $?
## killall
cp /bin/busybox ./sleepy 2>/dev/null; ln -s /bin/busybox sleep; ./sleep 77 & sleep 0.1; killall sleep; wait $! 2>/dev/null; echo $?; killall nosuch; echo $?
## klogd
klogd -n & sleep 0.2; kill $!; wait $! 2>/dev/null; echo $?
## last
last 2>&1 | head -1
## less
seq 5 | less
## link
>a; link a b; stat -c %h a; link a b; echo $?
## linux32
linux32 uname -m
## linux64
linux64 uname -m
## ln
echo x >a; ln a b; ln -s a c; ls -l | awk 'NR>1 {print $1,$2}'; ln -s nowhere d; readlink d; ln a b; echo $?; ln -f a b; mkdir e; ln -s ../a e/; cat e/a; ln -sf b c; readlink c; ln e f; echo $?
## loadfont
loadfont </dev/null; echo $?
## loadkmap
loadkmap </dev/null; echo $?
## logger
logger -s -t tag hello 2>&1 | cut -d' ' -f4-
## login
login nosuch </dev/null 2>&1 | head -1
## logname
logname; echo $?
## logread
logread; echo $?
## losetup
losetup -a; echo $?; echo x >f; losetup /dev/nosuch f; echo $?
## ls
mkdir d; >a; >.h; chmod 4755 a; ln -s a l; mkfifo p; ls; ls -a; ls -l | awk 'NR>1 {print $1,$2,$3,$4,$5,$9}'; ls -1F; ls -d d; ls -i a | wc -w; ls -R | head -5; ls nosuch; echo $?; ls -lh /dev/null | cut -c1-10; ls -ln a | awk '{print $3,$4}'; touch -d 2000-01-01 d; ls -t | tail -1; ls -S | wc -l; ls -la /proc/self/fd/0 | cut -c1
## lsmod
lsmod 2>/dev/null | head -1
## lsscsi
lsscsi; echo $?
## lzcat
printf '%s' XQAAgAAGAAAAAAAAAAA0GUnuJS+QAA== | base64 -d >f.lzma; lzcat f.lzma; echo $?
## lzma
echo x | lzma -d; echo $?
## lzop
seq 1000 | lzop | lzop -d | md5sum
## md5sum
echo hello >f; md5sum f >s; cat s; md5sum -c s; echo no >f; md5sum -c s; echo $?; head -c 1000000 /dev/zero | md5sum
## mdev
mkdir -p dev; mdev -s 2>&1 | head -1; echo $?
## microcom
microcom -t 100 /dev/nosuch; echo $?
## mim
mim; echo $?
## mkdosfs
dd if=/dev/zero of=disk bs=1M count=4 2>/dev/null; mkdosfs -n LABEL disk >/dev/null; dd if=disk bs=1 skip=3 count=8 2>/dev/null; echo; dd if=disk bs=1 skip=43 count=5 2>/dev/null; echo
## mkdir
mkdir a; mkdir a; echo $?; mkdir -p b/c/d; find b; mkdir -m 711 e; stat -c %a e; mkdir x/y; echo $?; umask 077; mkdir f; stat -c %a f
## mke2fs
dd if=/dev/zero of=disk bs=1M count=4 2>/dev/null; mke2fs -L lbl disk | grep -c .; dd if=disk bs=1 skip=1080 count=2 2>/dev/null | hexdump
## mkfifo
mkfifo p; ls -l p | cut -c1; echo through >p & cat p; mkfifo -m 600 q; stat -c %a q; mkfifo p; echo $?
## mknod
mknod n c 1 3; ls -l n | awk '{print $1,$5,$6}'; echo gone >n; mknod p p; stat -c %F p; mknod b b 7 0; stat -c '%F %t %T' b; mknod n c 1 3; echo $?; mknod z c 1 5; head -c 4 z | hexdump -C
## mkpasswd
mkpasswd -m sha512 -S saltsalt secret; mkpasswd -m md5 -S abcdefgh pw
## mkswap
dd if=/dev/zero of=sw bs=1k count=64 2>/dev/null; mkswap sw | sed 's/UUID.*//'; dd if=sw bs=1 skip=4086 count=10 2>/dev/null; echo
## mktemp
f=$(mktemp /tmp/w/fXXXXXX); stat -c %a $f; d=$(mktemp -d); stat -c %a $d; rmdir $d; mktemp /nosuch/XXXXXX 2>&1 | sed 's/XXXXXX/T/'; mktemp -u >/dev/null; echo $?
## modinfo
modinfo nosuch 2>/dev/null; echo $?
## modprobe
modprobe nosuch 2>/dev/null; echo $?
## more
seq 5 | more
## mount
mkdir m; mount -t tmpfs -o size=1m,mode=700 t m; stat -c %a m; echo x >m/f; mount | grep w/m | sed 's/,inode64//; s/,size=[0-9]*k//'; mount -o remount,ro m; echo y >m/f; echo $?; umount m; ls m; mkdir a b; >a/f; mount -o bind a b; ls b; umount b; mount -t nosuch x m; echo $?; mount -t proc p m; ls m/self >/dev/null && echo proc; umount m; mount --make-private / ; echo $?
## mt
mt -f /dev/nosuch status; echo $?
## mv
echo x >a; mv a b; cat b; mkdir d; mv b d; ls d; mv d/b /dev/shm/bb; cat /dev/shm/bb; mv /dev/shm/bb .; ls; mv nosuch q; echo $?; echo 1 >p; echo 2 >q; mv -n p q; cat q; mv -f p q; cat q; mkdir e; mv e d/; ls d; mv d d/sub; echo $?
## nameif
nameif nosuch 00:11:22:33:44:55; echo $?
## nc
nc -l -p 7001 >got & sleep 0.2; echo over tcp | nc 127.0.0.1 7001; wait; cat got; nc -w 1 127.0.0.1 1; echo $?; nc -l -p 7002 -e cat & sleep 0.2; echo echoed | nc -w 2 127.0.0.1 7002; nc -w 1 10.255.255.1 9; echo $?
## netstat
nc -l -p 7009 & sleep 0.2; netstat -tln | grep 7009 | awk '{print $1,$2,$3,$4,$5,$6}'; kill $!; netstat -rn | head -2; netstat -ul | head -1; netstat -xl | head -2; netstat -tan | head -2; netstat -w | head -2
## nl
printf 'a\n\nb\n' | nl; printf 'a\n\nb\n' | nl -b a
## nologin
timeout 1 nologin 2>&1 | head -1
## nproc
[ $(nproc) -ge 1 ] && echo ok; taskset 1 nproc
## nsenter
nsenter -t $$ echo in; echo $?
## nslookup
nslookup nosuch 127.0.0.1 2>&1 | head -1
## nuke
mkdir d; >d/f; nuke d; ls
## od
printf 'abc\ndef\0' | od -c; printf 'abcd' | od -x; printf 'abcd' | od -An -tx1; printf 'abcdefgh' | od -j 2 -N 3 -c
## openvt
openvt true; echo $?
## partprobe
partprobe /dev/null; echo $?
## passwd
printf 'pw\npw\n' | passwd nosuch; echo $?
## paste
printf '1\n2\n' >a; printf 'x\ny\n' >b; paste a b; paste -d, -s a b
## patch
printf 'a\nb\nc\n' >f; printf -- '--- f\n+++ f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n' >p; patch -p0 <p; cat f; patch -R -p0 <p; cat f; patch -p0 <nosuch; echo $?
## pidof
ln -s /bin/busybox sleep; ./sleep 50 & sleep 0.1; [ "$(pidof sleep)" = $! ] && echo same; kill $!; pidof nosuch; echo $?
## ping
ping -c 2 -i 0.1 127.0.0.1 | sed 's/time=.*/time/; s/round-trip.*/rtt/'; ping -c 1 -W 1 nosuch.invalid; echo $?
## ping6
ping6 -c 1 ::1 | sed 's/time=.*/time/; s/round-trip.*/rtt/'
## pivot_root
pivot_root /nosuch /nosuch; echo $?
## printf
printf '%5d|%-5s|%05x|%c|%s\n' 42 ab 255 z end; printf '%b\n' 'a\tb'; printf '%d\n' abc; echo $?; printf '%s-' a b c; echo; printf '%.2f\n' 2.345
## ps
ps | head -1; ps -o ppid,pgid,comm | head -1; ps -T | head -1; sleep 9 & sleep 0.5; ps -o pid,stat,comm | grep "$! " | awk '{print substr($2,1,1),$3}'; kill $!
## pwd
pwd; cd /; pwd; mkdir /tmp/w/d; cd /tmp/w/d; rmdir ../d; /bin/busybox pwd; echo $?
## rdate
rdate -p 127.0.0.1; echo $?
## readlink
ln -s a b; readlink b; ln -s /etc c; readlink -f c/passwd; readlink /etc/passwd; echo $?; readlink -f nosuch/x; echo $?; ln -s loop loop; readlink -f loop; echo $?
## realpath
mkdir d; ln -s d l; >d/f; realpath l/f; realpath nosuch/q; echo $?; realpath .
## renice
sleep 9 & renice 5 $!; cut -d' ' -f19 /proc/$!/stat; renice -n 3 -p $!; cut -d' ' -f19 /proc/$!/stat; kill $!; renice 5 999999; echo $?
## reset
reset | hexdump -C | head -2
## resume
resume /dev/nosuch; echo $?
## rev
echo abc | rev
## rm
>a; rm a; ls; mkdir d; rm d; echo $?; >d/f; rm -r d; ls; rm nosuch; echo $?; rm -f nosuch; echo $?; >b; chmod 0 b; rm -f b; ls; mkdir -p x/y/z; rm -rf x; ls; rm -rf /proc/self/nosuch; echo $?
## rmdir
mkdir -p a/b; rmdir a; echo $?; rmdir -p a/b; ls; >f; rmdir f; echo $?; rmdir nosuch; echo $?
## rmmod
rmmod nosuch; echo $?
## route
route -n | head -2; route add -net 10.66.0.0 netmask 255.255.0.0 dev lo; route -n | tail -1; route del -net 10.66.0.0 netmask 255.255.0.0; route -n | wc -l
## rpm
rpm -qip nosuch.rpm; echo $?
## rpm2cpio
rpm2cpio nosuch; echo $?
## run-parts
mkdir p; printf '#!/bb/sh\necho part $1\n' >p/one; chmod +x p/one; cp p/one p/two; >p/notexec; run-parts -a arg p; run-parts --test p
## sed
printf 'hello\nworld\n' >f; sed 's/o/0/g; 2d' f; sed -n '2p' f; sed -i 's/hello/bye/' f; cat f; sed -e '1i\top' -e '$a\end' f; sed 'y/abc/xyz/; /w/!d; s/\(w\)\(o\)/\2\1/' f; sed '$!N; s/\n/+/' f; sed 5q nosuch; echo $?
## seq
seq 3; seq 2 2 8; seq -w 8 10; seq -s, 1 4; seq 5 1; seq 0.5 0.5 2
## setpriv
setpriv -d | sed 's/0x[0-9a-f]*/X/' | head -3; setpriv --no-new-privs sh -c 'grep NoNewPrivs /proc/self/status'
## setsid
setsid sh -c 'set -- $(cat /proc/self/stat); [ "$5" = "$6" ] && echo leader'; setsid false; echo $?
## sh
sh -c 'echo $0 $1' a b; sh -c 'exit 7'; echo $?; echo 'echo piped' | sh; sh nosuch; echo $?; sh -c 'kill -9 $$'; echo $?; sh -c 'cd /nosuch'; echo $?; sh -xc 'x=1; echo $x' 2>&1; sh -c 'trap "echo usr1" USR1; kill -USR1 $$; echo on'
## sha1sum
echo hello | sha1sum; head -c 1000000 /dev/zero | sha1sum
## sha256sum
echo hello | sha256sum; head -c 1000000 /dev/zero | sha256sum
## sha3sum
echo hello | sha3sum
## sha512sum
echo hello | sha512sum
## shred
echo secret >f; shred -u -n 1 f; ls; echo x >g; shred -z -n 1 g; hexdump -C g | head -1
## shuf
seq 10 | shuf | sort -n | md5sum; shuf -e a b c | sort; shuf -i 1-5 -n 2 | wc -l
## sleep
sleep 0.05; echo $?; sleep x; echo $?
## sort
printf '10\n9\n2\nb\na\n' >f; sort f; sort -n f; sort -r f; printf 'b 2\na 2\nc 1\n' | sort -k2,2n -k1; printf 'a\na\nb\n' | sort -u; sort -c f; echo $?; sort nosuch; echo $?; sort -o out f; cat out; printf 'Feb\nJan\n' | sort -M; printf 'v10\nv9\n' | sort -V
## ssl_client
ssl_client; echo $?
## start-stop-daemon
start-stop-daemon -S -b -m -p pid -x /bb/sleep -- 60; sleep 0.2; kill -0 $(cat pid) && echo running; start-stop-daemon -S -t -p pid -x /bb/sleep -- 60; echo $?; start-stop-daemon -K -p pid | sed 's/pid [0-9]*/pid N/'; sleep 0.2; kill -0 $(cat pid); echo $?
## stat
echo abc >f; chmod 640 f; touch -d '2020-01-02 03:04:05' f; stat -c '%n %s %a %A %F %h %u %g %y %Y' f; ln -s f l; stat -c %F l; stat -Lc %F l; stat -f -c '%T' /tmp; stat -f -c '%s %l' /tmp; stat -c '%t %T %F' /dev/null; stat nosuch; echo $?
## strings
printf 'ab\0hello world\0\1\2foo\0barbaz\n' >f; strings f; strings -n 6 f
## stty
stty -a </dev/ptmx | head -1 | cut -d';' -f1; stty </dev/null; echo $?; stty size; stty -echo; stty -a | grep -o -- '-echo '; stty echo; stty -a | grep -o ' echo '; stty rows 33 cols 77; stty size; stty speed
## su
su nobody -s /bb/sh -c 'id -un; echo $HOME'; su nosuch; echo $?
## sulogin
sulogin /dev/nosuch </dev/null 2>&1 | head -1
## svc
svc -u nosuch; echo $?
## svok
svok nosuch; echo $?
## swapoff
swapoff nosuch; echo $?
## swapon
>f; swapon f; echo $?; swapon nosuch; echo $?
## sync
sync; echo $?; >f; sync f; echo $?; sync -f f; echo $?; sync nosuch; echo $?
## sysctl
sysctl kernel.ostype; sysctl -n kernel.hostname; sysctl -w kernel.hostname=viasysctl; hostname; hostname kiln; sysctl -w net.ipv4.ip_forward=1; sysctl -n net.ipv4.ip_forward; sysctl -w net.ipv4.ip_forward=0; sysctl nosuch.key; echo $?; sysctl -a 2>/dev/null | grep -c 'kernel\.' | awk '{print ($1>20)}'; sysctl -w vm.overcommit_memory=1; sysctl vm.overcommit_memory; sysctl -w vm.overcommit_memory=0
## syslogd
syslogd -n -O log & sleep 0.3; logger -t tag hello; sleep 0.3; grep -o 'tag: hello' log; kill $!; wait $! 2>/dev/null; echo $?
## tac
printf 'a\nb\nc\n' | tac
## tail
seq 20 | tail -n 2; seq 20 | tail -n +19; seq 20 | tail -c 5; (sleep 0.3; echo more >>f) & echo start >f; tail -f f >out & t=$!; sleep 1.6; kill $t; cat out
## tar
mkdir d; echo x >d/a; ln d/a d/h; ln -s a d/l; mkfifo d/p; chmod 4750 d/a; touch -d '2010-01-01 00:00:00' d/a; tar -cf t.tar d; tar -tvf t.tar | awk '{print $1,$2,$NF}' | sort; mkdir o; tar -xf t.tar -C o; stat -c '%a %h %Y' o/d/a; readlink o/d/l; stat -c %F o/d/p; tar -czf t.tgz d; tar -tzf t.tgz | wc -l; tar -xOf t.tar d/a; tar -xf nosuch; echo $?; tar -cf - d | tar -tf - | wc -l; echo bad | tar -xf -; echo $?
## taskset
taskset 1 sh -c 'taskset -p $$' | sed 's/pid [0-9]*/pid N/'; taskset -c 0 true; echo $?; taskset 0 true; echo $?
## tc
tc qdisc show dev lo | head -1 | cut -c1-6; echo $?
## tee
echo x | tee a b; cat a b; echo y | tee -a a >/dev/null; cat a; echo z | tee /dev/full; echo $?
## telnet
telnet 127.0.0.1 1; echo $?
## telnetd
telnetd --nosuch 2>&1 | head -1; echo $?
## test
test -e /tmp; echo $?; test a = b; echo $?; test -s /etc/passwd && echo s; test 1 -eq 1 -a 2 -gt 1; echo $?; mkfifo p; test -p p && echo p; test -c /dev/null && echo c; ln -s x l; test -L l && echo L; test -t 0; echo $?; >a; touch -d 2000-01-01 b; test a -nt b && echo nt; chmod 000 a; test -r a && echo root reads; test -k /tmp && echo k
## tftp
tftp -g -r f 127.0.0.1 1 2>&1 | head -1
## time
time true 2>&1 | sed 's/[0-9.]\+/N/g'; time sh -c 'exit 3' 2>/dev/null; echo $?
## timeout
timeout 0.2 sleep 5; echo $?; timeout 5 true; echo $?; timeout -s KILL 0.2 sleep 5; echo $?; timeout 5 sh -c 'exit 9'; echo $?
## top
top -b -n 1 | head -4 | sed 's/ *[0-9.]\+/ N/g' | cut -c1-12
## touch
touch a; stat -c %s a; touch -d '2000-01-02 03:04:05' a; stat -c %y a; touch -r a b; stat -c %Y b; touch -c nosuch; ls; touch /nosuch/x; echo $?; ln -s a l; touch -h -d '1999-01-01 00:00:00' l; stat -c %Y l a; touch -t 202001020304.05 a; stat -c %y a
## tr
echo hello | tr a-y b-z; echo aabbcc | tr -s abc; echo hello | tr -d l; echo 'a b' | tr '[:space:]' _; echo; echo abc | tr -c ab X; echo
## traceroute
traceroute -m 1 -w 1 -q 1 -n 127.0.0.1 2>&1 | sed 's/[0-9.]* ms/T ms/'
## traceroute6
traceroute6 -m 1 -w 1 -q 1 -n ::1 2>&1 | sed 's/[0-9.]* ms/T ms/'
## true
true; echo $?
## truncate
truncate -s 1000 f; stat -c %s f; truncate -s 10 f; stat -c %s f; truncate -s 1M f; stat -c '%s %b' f; truncate -c -s 1 nosuch; ls; truncate -s 1 .; echo $?
## ts
echo x | ts '%Y' | wc -w
## tty
tty | sed 's/[0-9]\+$/N/'; tty </dev/null; echo $?
## tunctl
tunctl -t tap9; echo $?
## ubirename
ubirename /dev/nosuch a b; echo $?
## udhcpc
udhcpc -i nosuch -n -q -t 1 2>&1 | tail -1; echo $?
## udhcpd
udhcpd -f nosuch.conf; echo $?
## umount
umount /nosuch; echo $?; mkdir m; mount -t tmpfs t m; cd m; umount /tmp/w/m; echo $?; cd ..; umount m; umount m; echo $?; mount -t tmpfs t m; cd m; umount -l /tmp/w/m; echo $?; cd /tmp/w; ls m
## uname
uname -s; uname -m; uname -n; uname -o; uname -r | grep -c '^[0-9]\+\.'
## uncompress
uncompress nosuch; echo $?
## unexpand
printf '        a\n' | unexpand | hexdump -C
## uniq
printf 'a\na\nb\na\n' | uniq; printf 'a\na\nb\n' | uniq -c; printf 'a\na\nb\n' | uniq -d; printf 'a\nA\n' | uniq -i
## unix2dos
printf 'a\nb\n' >f; unix2dos f; hexdump -C f
## unlink
>a; unlink a; ls; unlink a; echo $?; mkdir d; unlink d; echo $?
## unlzma
echo bad | unlzma; echo $?
## unshare
unshare -u sh -c 'hostname inner; hostname'; hostname
## unxz
printf '%s' /Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQACeHh4AAAAAFbF0qrYyg1FAAEbA3wtrEofs/N9AQAAAAAEWVo= | base64 -d >f.xz; unxz f.xz; echo $?
## unzip
printf '%s' UEsDBAoAAAAAAAAAIQCXGBNgAwAAAAMAAAABABwAYWZvb1BLAQIeAwoAAAAAAAAAIQCXGBNgAwAAAAMAAAABABgAAAAAAAAAAACkgQAAAABhUEsFBgAAAAABAAEARwAAADwAAAAA | base64 -d >f.zip; unzip -l f.zip; echo $?
## uptime
uptime | sed 's/[0-9:,.]\+/N/g' | grep -o 'load average'
## usleep
usleep 1000; echo $?
## uudecode
printf 'hello\n' | uuencode out >u; uudecode -o - u; uudecode u; cat out
## uuencode
printf 'hello world\n' | uuencode f; printf 'hello\n' | uuencode -m f
## vi
printf 'hello\n' >f; printf ':s/hello/bye/\n:wq\n' | vi f >/dev/null 2>&1; cat f
## w
w | head -1 | grep -c load; w | tail -n +2 | head -1 | awk '{print $1}'
## watch
timeout 1 watch -n 5 -t echo hi | tr -d '\033' | grep -o hi | head -1
## watchdog
watchdog -F /dev/nosuch; echo $?
## wc
printf 'a b\nc\n' >f; wc f; wc -l <f; wc -c f; wc -w f nosuch; echo $?; wc -L f
## wget
wget -O - http://127.0.0.1:1/ 2>&1 | tail -1; echo $?; (printf 'HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc' | nc -l -p 7011 >req) & sleep 0.3; wget -q -O - http://127.0.0.1:7011/p; echo; head -1 req
## which
which ls; which nosuch; echo $?
## who
who; echo $?
## whoami
whoami; su nobody -s /bb/sh -c whoami
## xargs
seq 5 | xargs; seq 5 | xargs -n 2 echo; printf 'a\0b c\0' | xargs -0 -n 1 echo; echo 'x y' | xargs -I {} echo '<{}>'; seq 3 | xargs false; echo $?; seq 3 | xargs nosuch; echo $?; seq 4 | xargs -P 2 -n 1 echo | sort; echo | xargs -r echo no
## xxd
printf 'hello world' | xxd; printf hello | xxd -p; echo 68690a | xxd -r -p
## xz
echo bad | xz -d; echo $?
## xzcat
xzcat nosuch; echo $?
## yes
yes | head -3; yes a b | head -1; yes >/dev/full; echo $?
## zcat
seq 5 | gzip >f.gz; zcat f.gz; zcat nosuch; echo $?
