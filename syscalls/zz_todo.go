package syscalls

var credEntries, signalEntries, timerEntries, schedEntries, prctlEntries, miscEntries []Entry
