package syscalls

// pollEntries are the rows of the poll family.
var pollEntries = []Entry{}
