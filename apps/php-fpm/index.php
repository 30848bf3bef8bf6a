<?php
function fib(int $n): int { return $n < 2 ? $n : fib($n - 1) + fib($n - 2); }
$n = max(1, min(32, (int) ($_GET['n'] ?? 10)));
$stat = explode(' ', file_get_contents('/proc/self/stat'));
$status = function_exists('opcache_get_status') ? opcache_get_status(false) : false;
?>
<h1>PHP <?= PHP_VERSION ?> in Kiln</h1>
<p><?= PHP_SAPI ?> as <?= fileowner('/proc/self') ?>, worker <?= getmypid() ?> of master <?= $stat[3] ?> ,
opcache <?= $status && $status['opcache_enabled'] ? 'on' : 'off' ?>.</p>
<p>fib(<?= $n ?>) = <?= fib($n) ?></p>
