// Package tcpin has netstack's TCP endpoints look at their segments at once, in the caller's
// goroutine, where netstack leaves them to its own. It uses functions that netstack keeps for
// itself: the one package that names those, by the linker's names, which a version that has
// others does not link with.
package tcpin

import (
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

//go:linkname handleListen gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleListen
func handleListen(*tcp.Endpoint)

//go:linkname handleConnecting gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleConnecting
func handleConnecting(*tcp.Endpoint)

//go:linkname handleConnected gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleConnected
func handleConnected(*tcp.Endpoint)

//go:linkname segmentQueueEmpty gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segmentQueue).empty
func segmentQueueEmpty(unsafe.Pointer) bool

// queueAt is where an endpoint has the segments that it has not looked at.
var queueAt = func() uintptr {
	f, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName("segmentQueue")
	if !ok {
		panic("tcpin: netstack's TCP endpoint has no segmentQueue")
	}
	return f.Offset
}()

// Take has an endpoint look at its segments, as netstack's dispatcher does: false if there are
// none, or if it is in a state in which they make no difference to a program. It and a processor
// of netstack's exclude each other by the endpoint's lock, under which the queue is emptied, in
// its order; if somebody has the lock, it is true, and nothing is done. The caller has no
// endpoint's lock.
func Take(ep *tcp.Endpoint) bool {
	if segmentQueueEmpty(unsafe.Add(unsafe.Pointer(ep), queueAt)) {
		return false
	}
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateListen:
		handleListen(ep)
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		handleConnecting(ep)
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateClosing, tcp.StateCloseWait, tcp.StateLastAck:
		handleConnected(ep)
	default:
		return false
	}
	return true
}
