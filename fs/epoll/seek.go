package epoll

// NoSeek implements vfs.NoSeek: lseek on a set succeeds and does nothing.
func (s *Set) NoSeek() {}
