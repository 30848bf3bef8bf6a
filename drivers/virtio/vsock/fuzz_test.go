package vsock

import (
	"testing"

	"kiln/drivers/pci"
	"kiln/drivers/virtio"
	"kiln/drivers/virtio/virtiotest"
	"kiln/kernel/hal/fake"
)

func openPCI(m *fake.Machine, d *virtiotest.Device) (virtio.Transport, error) {
	d.PCI(virtiotest.NewHost(m), 3, 0xfe000000, 4, 11)
	return virtio.OpenPCI(pci.New(m, nil).Scan()[0])
}

// Whatever a device writes into its rings and as packets, it is served or has failed: what
// is received is within the buffer, every packet comes back once, and no more answers wait
// than there may.
func FuzzVsock(f *testing.F) {
	up := []byte{255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0}
	hdr := packet(Header{SrcCID: 2, DstCID: 42, SrcPort: 1, DstPort: 2, Type: TypeStream, Op: OpRequest}, "")
	f.Add(uint64(virtiotest.Version1|featSeqpacket), up, append([]byte{0, 0, HeaderSize, 1, HeaderSize}, hdr...))
	f.Add(uint64(virtiotest.Version1|virtiotest.Indirect), up, []byte{1, 0, 0, 1, 0, 2, 0, 4, 1, 4, 0, 0, 0, 0, 0, 1, 60, 1, 0})
	f.Add(uint64(0), up, []byte{0, 1, 255, 1, 0, 3, 0, 2, 1, 0, 2, 9, 9, 9, 0})
	f.Fuzz(func(t *testing.T, feat uint64, answers, script []byte) {
		h := &virtiotest.Hostile{M: fake.New(1024), Kind: virtio.TypeVsock, Old: feat&virtiotest.Version1 == 0, Feat: feat, Answers: answers}
		d, err := Open(h.M, h, "virtio-vsock0", nil)
		if err != nil {
			return
		}
		defer d.dev.Fail("the end")
		out := map[*Packet]bool{}
		taken := 0
		d.OnSent(func(p *Packet) {
			if !out[p] {
				t.Error("a packet came back that was not sent, or twice")
			}
			delete(out, p)
		})
		send := func(p *Packet) {
			out[p] = true
			if d.Send(p) {
				taken++
			} else {
				delete(out, p)
			}
		}
		d.SetReceiver(func(hd *Header, data []byte) {
			if len(data) > rxSize-HeaderSize || uint32(len(data)) != hd.Len {
				t.Errorf("%d bytes of %d", len(data), hd.Len)
			}
			send(&Packet{Header: Header{Op: OpReset}, Reply: true})
			send(&Packet{Header: Header{Op: OpData}, Data: data[:len(data):len(data)]})
		})
		if d.lend() != nil || d.dev.Start() != nil {
			return
		}
		d.started = true
		for len(script) > 1 {
			script = h.Serve(int(script[0]&3), script[1:])
			for n := 0; d.serve(); n++ {
				if n > 10000 {
					t.Fatal("there is always something more")
				}
			}
			if d.replies > maxReplies || d.replies > len(d.pending) {
				t.Fatalf("%d answers of %d packets wait", d.replies, len(d.pending))
			}
		}
		d.dev.Fail("the end")
		d.end()
		if len(out) != 0 {
			t.Errorf("%d of %d packets did not come back", len(out), taken)
		}
	})
}
