package conformance

import (
	"testing"

	"kiln/syscalls"
)

func TestMasksAndCoverageNameWhatThereIs(t *testing.T) {
	masks, err := parseMasks(maskText)
	if err != nil {
		t.Fatal(err)
	}
	calls, keys, cases := map[string]syscalls.Support{}, map[string]*Mask{}, map[string]bool{"-": true, "": true}
	for _, e := range syscalls.Table() {
		calls[e.Name] = e.Support
	}
	for call, l := range masks {
		support, ok := calls[call]
		if !ok {
			t.Errorf("masks.txt: Linux has no call %s", call)
		}
		for _, m := range l {
			if keys[m.Key()] != nil {
				t.Errorf("masks.txt: %s is there twice", m.Key())
			}
			keys[m.Key()] = m
			if m.Absent != "" && support == syscalls.Full {
				t.Errorf("masks.txt: %s is absent, and the kernel's table has the call as full", m.Key())
			}
		}
	}
	for _, c := range Cases() {
		cases[c.Name] = true
	}
	for key, c := range Covered() {
		switch m := keys[key]; {
		case m == nil:
			t.Errorf("covered.txt: masks.txt has no %s", key)
		case !cases[c.Success] || !cases[c.Error]:
			t.Errorf("covered.txt: %s: no case %q or %q", key, c.Success, c.Error)
		case c.Success == "-" && !m.NoSuccess, c.Error == "-" && !m.NoError:
			t.Errorf("covered.txt: %s needs a case", key)
		}
	}
}

// Another entry in the masks, or a case less, takes the level away.
func TestLevelIsDerivedFromTheCases(t *testing.T) {
	e := syscalls.Entry{Name: "epoll_create1", Support: syscalls.Full}
	if l := Level(e); l != "full" {
		t.Fatalf("epoll_create1 is %s: %q", l, Missing(e.Name))
	}
	if l := Level(syscalls.Entry{Name: "no_such_call", Support: syscalls.Full}); l != "claimed" {
		t.Errorf("a call without a mask is %s", l)
	}
	all := Masks()
	more := &Mask{Call: e.Name, Name: "EPOLL_NEW", Arg: 0, Value: 1}
	all[e.Name] = append(all[e.Name], more)
	if l := Level(e); l != "claimed" {
		t.Errorf("with a flag that no case covers it is %s", l)
	}
	more.Absent = "EINVAL not there"
	if l := Level(e); l != "partial" {
		t.Errorf("with an absent flag it is %s", l)
	}
	all[e.Name] = all[e.Name][:len(all[e.Name])-1]
}
