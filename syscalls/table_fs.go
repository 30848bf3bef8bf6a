package syscalls

// fsEntries are the rows of the fs family.
var fsEntries = []Entry{}
