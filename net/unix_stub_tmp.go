package net
import "golang.org/x/sys/unix"
type namespace struct{}
func (n *namespace) init() {}
func (s *Stack) unixSocket(c *Caller, typ, protocol int) (Socket, error) { return nil, unix.EAFNOSUPPORT }
func (s *Stack) netlinkSocket(c *Caller, typ, protocol int) (Socket, error) { return nil, unix.EAFNOSUPPORT }
