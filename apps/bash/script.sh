#!/bin/bash
# What a shell script asks of a kernel, a line of output a subject. Each line says what was
# found, not what was hoped for.

echo "arguments: $# [$1] [$2]"

# Pipelines: data through several processes, every status, SIGPIPE.
echo "pipeline: $(seq 1 10000 | grep -v '^$' | sort -n | sed -n '4999,5001p' | paste -s -d ' ')"
(exit 3) | true | (exit 5)
echo "pipestatus: ${PIPESTATUS[*]}"
set -o pipefail; (exit 3) | cat; echo "pipefail: $?"; set +o pipefail
yes | head -n 1 > /dev/null
echo "sigpipe: ${PIPESTATUS[*]}"

# A subshell has its own variables, folder and status.
n=0
inner=$( (n=1; cd /tmp; echo $n; exit 9); echo "s$?")
echo "subshell: inner ${inner%%$'\n'*} outer $n status ${inner##*s}"

# Here-documents and here-strings.
cat <<END
here: 2 + 3 = $((2 + 3))
END
cat <<'END'
here: $literal
END
echo "here-string: $(tr a-z A-Z <<< hot)"

# Command substitution, nested, and one that is larger than a pipe.
big=$(seq -f 'line %08g of a text that is larger than what a pipe holds' 1 3000)
echo "substitution: nested <$(echo "$(echo a)-$(echo b)")> $(echo "$big" | grep -c '00[12]0[0-5] of') lines"

# Background jobs, whose statuses wait collects in the order that is asked for.
pids=()
for i in 0 1 2 3 4 5; do (sleep 0.0$((6 - i)); exit $i) & pids+=($!); done
out=
for p in "${pids[@]}"; do wait "$p"; out+=" $?"; done
echo "jobs:$out"
(sleep 5; exit 1) & slow=$!
(sleep 0.02; exit 6) &
wait -n; echo "wait -n: $?"
kill $slow; wait $slow 2>/dev/null

# Process substitution: descriptors by /dev/fd.
echo "process substitution: $(paste -d ' ' <(seq 3) <(seq 4 6) | while read -r a b; do echo $((b - a + a - 3 + a)); done | paste -s -d ' ')"
seq 10 | tee >(paste -s -d + > /tmp/a) | paste -s -d + > /tmp/b
until [ -s /tmp/a ]; do sleep 0.01; done
echo "tee: $(($(cat /tmp/a))) $(($(cat /tmp/b)))"

# Arrays.
list=(a b c "d e" f)
echo "arrays: ${#list[@]} ${list[2]} [${list[3]}] ${!list[*]}"
declare -A map=([kiln]=hot [ice]=cold)
echo "associative: kiln=${map[kiln]}"

# Traps: a handler runs between commands, also while wait waits.
count=0
trap 'count=$((count + 1))' USR1
kill -USR1 $$; kill -USR1 $$
(sleep 0.05; kill -USR1 $$) & job=$!
wait $job; wait $job
echo "trap USR1: $count"
trap - USR1
sleep 100 & victim=$!
kill -TERM $victim; wait $victim 2>/dev/null
echo "killed by TERM: $?"
timeout 0.1 sleep 100
echo "timeout: $?"

# A coprocess and a fifo.
coproc UP { while read -r l; do echo "${l^^}"; done; }
up=$UP_PID
echo hello >&"${UP[1]}"
read -r answer <&"${UP[0]}"
echo "coprocess: got $answer"
kill $up; wait $up 2>/dev/null
mkfifo /tmp/fifo
echo "through a fifo" > /tmp/fifo &
echo "fifo: $(cat /tmp/fifo)"
wait

# set -e ends the shell at the first failure; ERR sees it.
text=$(set -e; echo before; false; echo after)
echo "set -e: $? $text"
echo "trap ERR: $(trap 'echo "line fails with $?"' ERR; (exit 7); trap - ERR)"

# exec replaces the shell, and a descriptor.
(exec bash -c 'exit 17'); echo "exec: $?"
exec 7< <(echo "alpha beta gamma"); read -r first rest <&7; exec 7<&-
echo "read: [$first] [$rest]"

# A script by its first line; what cannot be run.
printf '#!/usr/bin/env -S bash -e\necho "script said $1"\n' > /tmp/script; chmod +x /tmp/script
echo "#!: $(/tmp/script ok)"
/nothing/here 2>/dev/null; missing=$?
/srv/script.sh 2>/dev/null; echo "not found: $missing, not executable: $?"

# Many children.
sum=0
for i in $(seq 0 99); do sum=$((sum + $(echo "$i"))); done
echo "many: 100 children, $sum"

# Job control: a process group of its own, killed as one; stop and continue.
set -m
{ sleep 100 | sleep 100; echo "not reached"; } 2>/dev/null &
sleep 0.05
bash -c 'sleep 100 & a=$!; sleep 100 & b=$!; kill -TERM $a $b; wait $a; x=$?; wait $b; echo "group: $x $?"' 2>/dev/null
kill -TERM -- -$!; wait $! 2>/dev/null
sleep 0.2 & job=$!
kill -STOP $job; sleep 0.05
read -r _ _ state _ < /proc/$job/stat
kill -CONT $job; wait -f $job
echo "stopped: $state, then $?"
set +m

trap 'echo "signal of the trap: EXIT with $?"' EXIT
exit 42
