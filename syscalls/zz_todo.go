package syscalls

var credEntries, schedEntries, prctlEntries, miscEntries []Entry
