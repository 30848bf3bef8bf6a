// Package rng drives virtio entropy devices (virtio 1.2, 5.4) and feeds the
// machine's random generator.
package rng

import (
	"sync"

	"kiln/drivers/virtio"
	"kiln/kernel/hal"
)

// seedLen is what one request asks for, in bytes: twice the generator's state.
const seedLen = 64

// Source is an entropy device.
type Source struct {
	dev  *virtio.Device
	q    *virtio.Queue
	m    hal.Machine
	buf  []byte
	addr hal.PhysAddr
	wake chan struct{}

	mu   sync.Mutex
	busy bool
	fed  int
}

// Open brings the device up and asks for a first seed, which goes to AddEntropy
// when it comes.
func Open(m hal.Machine, t virtio.Transport, name string, w *virtio.Watchdog) (*Source, error) {
	dev, err := virtio.NewDevice(m, t, name)
	if err != nil {
		return nil, err
	}
	if err := dev.Negotiate(0); err != nil {
		return nil, err
	}
	s := &Source{dev: dev, m: m, wake: make(chan struct{}, 1)}
	if err := t.Connect(name, nil, []func(){s.kick}); err != nil {
		return nil, err
	}
	if s.q, err = dev.NewQueue(0, virtio.QueueConfig{Size: 8}); err != nil {
		return nil, err
	}
	if s.buf, s.addr, err = dev.DMA(seedLen, 16); err != nil {
		return nil, err
	}
	dev.OnError(s.kick)
	if err := dev.Start(); err != nil {
		return nil, err
	}
	s.q.Listen(1)
	go s.run()
	w.Watch(s.q, s.kick)
	s.Reseed()
	return s, nil
}

func (s *Source) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Reseed asks the device for more; it does not wait.
func (s *Source) Reseed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy || s.dev.Err() != nil {
		return
	}
	if s.q.Add([]virtio.Seg{{Addr: s.addr, Len: seedLen}}, 0, s) == nil {
		s.busy = true
		s.q.Kick()
	}
}

// Fed is the number of bytes the device has given so far.
func (s *Source) Fed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fed
}

// Device gives access to errors and counters.
func (s *Source) Device() *virtio.Device { return s.dev }

func (s *Source) run() {
	for range s.wake {
		s.mu.Lock()
		for {
			for {
				_, n, ok := s.q.Pop()
				if !ok {
					break
				}
				s.busy = false
				s.m.AddEntropy(s.buf[:n])
				s.fed += int(n)
				clear(s.buf)
			}
			if !s.q.Listen(1) {
				break
			}
			if s.dev.Err() != nil {
				break
			}
		}
		s.mu.Unlock()
		if s.dev.Err() != nil {
			return
		}
	}
}
