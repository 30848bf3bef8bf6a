package main

import (
	"os"

	"github.com/google/pprof/profile"
)

// pgoProfile gathers samples in pprof's format.
type pgoProfile struct {
	p     *profile.Profile
	funcs map[string]*profile.Function
	locs  map[frame]*profile.Location
	seen  map[string]*profile.Sample
}

func newProfile() *pgoProfile {
	return &pgoProfile{
		p:     &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}}},
		funcs: map[string]*profile.Function{}, locs: map[frame]*profile.Location{}, seen: map[string]*profile.Sample{},
	}
}

func (p *pgoProfile) add(sym *symbols, m sample) {
	var s profile.Sample
	key := ""
	for _, f := range sym.unwind(m) {
		if f.startLine == 0 {
			break // assembly: the compiler has no use for it
		}
		l := p.location(f)
		s.Location = append(s.Location, l)
		key += string(rune(l.ID))
	}
	if len(s.Location) == 0 {
		return
	}
	if old := p.seen[key]; old != nil {
		old.Value[0]++
		return
	}
	s.Value = []int64{1}
	p.seen[key] = &s
	p.p.Sample = append(p.p.Sample, &s)
}

func (p *pgoProfile) location(f frame) *profile.Location {
	if l := p.locs[f]; l != nil {
		return l
	}
	fn := p.funcs[f.fn]
	if fn == nil {
		fn = &profile.Function{ID: uint64(len(p.funcs) + 1), Name: f.fn, SystemName: f.fn, StartLine: int64(f.startLine)}
		p.funcs[f.fn] = fn
		p.p.Function = append(p.p.Function, fn)
	}
	l := &profile.Location{ID: uint64(len(p.locs) + 1), Line: []profile.Line{{Function: fn, Line: int64(f.line)}}}
	p.locs[f] = l
	p.p.Location = append(p.p.Location, l)
	return l
}

func (p *pgoProfile) write(path string) error {
	if err := p.p.CheckValid(); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := p.p.Write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
