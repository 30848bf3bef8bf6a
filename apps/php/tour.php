<?php
// What programs in PHP do of a system: processes, System V objects, sockets, files.

$pids = [];
for ($n = 1; $n <= 3; $n++) {
    $pid = pcntl_fork();
    if ($pid == 0) {
        exit($n);
    }
    $pids[] = $pid;
}
$sum = 0;
foreach ($pids as $pid) {
    pcntl_waitpid($pid, $status);
    $sum += pcntl_wexitstatus($status);
}
echo "children $sum\n";

// Four children add to one number in shared memory, under a semaphore.
$memory = shm_attach(0x4b11, 4096);
$semaphore = sem_get(0x4b12, 1);
shm_put_var($memory, 1, 0);
for ($n = 0; $n < 4; $n++) {
    if (pcntl_fork() == 0) {
        for ($i = 0; $i < 100; $i++) {
            sem_acquire($semaphore);
            shm_put_var($memory, 1, shm_get_var($memory, 1) + 1);
            sem_release($semaphore);
        }
        exit(0);
    }
}
while (pcntl_wait($status) > 0);
echo "counted ", shm_get_var($memory, 1), "\n";
shm_remove($memory);
sem_remove($semaphore);

$queue = msg_get_queue(0x4b13);
if (pcntl_fork() == 0) {
    foreach (["one", "two", "three"] as $i => $word) {
        msg_send($queue, $i + 1, $word);
    }
    exit(0);
}
pcntl_wait($status);
msg_receive($queue, 2, $type, 100, $word);
echo "message $type $word, left ", msg_stat_queue($queue)["msg_qnum"], "\n";
msg_remove_queue($queue);

pcntl_async_signals(true);
pcntl_signal(SIGUSR1, function ($n) { echo "signal $n\n"; });
posix_kill(posix_getpid(), SIGUSR1);

$p = proc_open(["/bin/sh", "-c", "cat; exit 5"], [["pipe", "r"], ["pipe", "w"]], $pipes);
fwrite($pipes[0], "through cat\n");
fclose($pipes[0]);
echo stream_get_contents($pipes[1]), "status ", proc_close($p), "\n";
echo "shell ", shell_exec("echo $((6 * 7))");

[$a, $b] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
fwrite($a, "over a socket\n");
echo fgets($b);
$server = stream_socket_server("tcp://127.0.0.1:0");
$client = stream_socket_client("tcp://" . stream_socket_get_name($server, false));
$served = stream_socket_accept($server);
fwrite($served, "over tcp\n");
echo fgets($client);

$name = tempnam("/tmp", "kiln");
file_put_contents($name, str_repeat("x", 100000), LOCK_EX);
echo "file ", substr(hash_file("sha256", $name), 0, 12), " ", filesize($name), "\n";
unlink($name);
echo "warned ", @file_get_contents("/no/such") === false ? error_get_last()["message"] : "not", "\n";
echo json_encode(["regex" => preg_replace('/(\w+) (\w+)/u', '$2 $1', "grün blau"), "big" => PHP_INT_MAX]), "\n";
