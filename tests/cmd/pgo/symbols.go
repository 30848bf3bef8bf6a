package main

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

// frame is one call, inlined or not. Lines count from 1.
type frame struct {
	fn        string
	file      string
	line      int
	startLine int
}

// function is one compiled function with the calls inlined into it.
type function struct {
	low, high uint64
	name      string
	file      string
	startLine int
	inlined   []inlined
	unit      *dwarf.Entry
	cfa       []cfaRow
}

// inlined is one call that the compiler expanded; depth is 1 for those directly in
// the function.
type inlined struct {
	ranges    [][2]uint64
	name      string
	file      string
	startLine int
	callLine  int
	depth     int
}

// cfaRow says that from pc on the canonical frame address is the stack pointer plus off.
type cfaRow struct {
	pc  uint64
	off int64
}

// symbols maps addresses of the kernel to frames.
type symbols struct {
	d     *dwarf.Data
	funcs []*function
	lines map[dwarf.Offset][]dwarf.LineEntry
}

type decl struct {
	name, file string
	line       int
}

func newSymbols(path string) (*symbols, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		return nil, err
	}
	s := &symbols{d: d, lines: map[dwarf.Offset][]dwarf.LineEntry{}}
	decls, err := s.declarations()
	if err != nil {
		return nil, err
	}
	if err := s.functions(decls); err != nil {
		return nil, err
	}
	sort.Slice(s.funcs, func(i, j int) bool { return s.funcs[i].low < s.funcs[j].low })
	sec := f.Section(".debug_frame")
	if sec == nil {
		return nil, errors.New("no .debug_frame")
	}
	data, err := sec.Data()
	if err != nil {
		return nil, err
	}
	return s, s.frames(data)
}

// walk visits every entry with the unit it is in and that unit's files.
func (s *symbols) walk(visit func(e, unit *dwarf.Entry, files []*dwarf.LineFile, depth int)) error {
	r := s.d.Reader()
	var unit *dwarf.Entry
	var files []*dwarf.LineFile
	for depth := 0; ; {
		e, err := r.Next()
		if err != nil || e == nil {
			return err
		}
		if e.Tag == 0 {
			depth--
			continue
		}
		if e.Tag == dwarf.TagCompileUnit {
			unit, files = e, nil
			if lr, err := s.d.LineReader(e); err == nil && lr != nil {
				files = lr.Files()
			}
		}
		visit(e, unit, files, depth)
		if e.Children {
			depth++
		}
	}
}

// declarations are the subprograms by offset: concrete and inlined ones refer to them.
func (s *symbols) declarations() (map[dwarf.Offset]decl, error) {
	decls := map[dwarf.Offset]decl{}
	err := s.walk(func(e, _ *dwarf.Entry, files []*dwarf.LineFile, _ int) {
		if e.Tag != dwarf.TagSubprogram {
			return
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		line, _ := e.Val(dwarf.AttrDeclLine).(int64)
		dc := decl{name: name, line: int(line)}
		if i, ok := e.Val(dwarf.AttrDeclFile).(int64); ok && int(i) < len(files) && files[i] != nil {
			dc.file = files[i].Name
		}
		decls[e.Offset] = dc
	})
	return decls, err
}

func (s *symbols) functions(decls map[dwarf.Offset]decl) error {
	var cur *function
	base := 0
	return s.walk(func(e, unit *dwarf.Entry, files []*dwarf.LineFile, depth int) {
		switch e.Tag {
		case dwarf.TagSubprogram:
			cur = nil
			rs, err := s.d.Ranges(e)
			if err != nil || len(rs) == 0 {
				return
			}
			dc := decls[e.Offset]
			if o, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset); ok {
				dc = decls[o]
			}
			cur = &function{low: rs[0][0], high: rs[0][1], name: dc.name, file: dc.file, startLine: dc.line, unit: unit}
			base = depth
			s.funcs = append(s.funcs, cur)
		case dwarf.TagInlinedSubroutine:
			if cur == nil {
				return
			}
			o, _ := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
			rs, err := s.d.Ranges(e)
			if err != nil {
				return
			}
			line, _ := e.Val(dwarf.AttrCallLine).(int64)
			dc := decls[o]
			cur.inlined = append(cur.inlined, inlined{ranges: rs, name: dc.name, file: dc.file, startLine: dc.line, callLine: int(line), depth: depth - base})
		}
	})
}

func (s *symbols) find(pc uint64) *function {
	i := sort.Search(len(s.funcs), func(i int) bool { return s.funcs[i].low > pc }) - 1
	if i < 0 || pc >= s.funcs[i].high {
		return nil
	}
	return s.funcs[i]
}

// line is the source line of pc by the unit's line table.
func (s *symbols) line(f *function, pc uint64) int {
	t, ok := s.lines[f.unit.Offset]
	if !ok {
		if lr, err := s.d.LineReader(f.unit); err == nil && lr != nil {
			for {
				var le dwarf.LineEntry
				if err := lr.Next(&le); err == io.EOF || err != nil {
					break
				}
				t = append(t, le)
			}
		}
		sort.SliceStable(t, func(i, j int) bool { return t[i].Address < t[j].Address })
		s.lines[f.unit.Offset] = t
	}
	i := sort.Search(len(t), func(i int) bool { return t[i].Address > pc }) - 1
	if i < 0 {
		return 0
	}
	return t[i].Line
}

// at is the chain of frames at pc, innermost first.
func (s *symbols) at(pc uint64) []frame {
	f := s.find(pc)
	if f == nil || f.name == "" {
		return nil
	}
	var in []inlined
	for _, c := range f.inlined {
		for _, r := range c.ranges {
			if r[0] <= pc && pc < r[1] {
				in = append(in, c)
				break
			}
		}
	}
	sort.Slice(in, func(i, j int) bool { return in[i].depth > in[j].depth })
	line := s.line(f, pc)
	var out []frame
	for _, c := range in {
		out = append(out, frame{c.name, c.file, line, c.startLine})
		line = c.callLine
	}
	return append(out, frame{f.name, f.file, line, f.startLine})
}

// unwind is the stack of a sample, innermost first.
func (s *symbols) unwind(m sample) []frame {
	var out []frame
	pc, sp := m.pc, m.sp
	for n := 0; n < 64; n++ {
		look := pc
		if n > 0 {
			look-- // a return address lies behind its call
		}
		f := s.find(look)
		if f == nil {
			break
		}
		out = append(out, s.at(look)...)
		i := sort.Search(len(f.cfa), func(i int) bool { return f.cfa[i].pc > look }) - 1
		if i < 0 {
			break
		}
		cfa := sp + uint64(f.cfa[i].off)
		at := cfa - 8 - m.sp
		if at+8 > uint64(len(m.stack)) {
			break
		}
		pc, sp = binary.LittleEndian.Uint64(m.stack[at:]), cfa
	}
	return out
}

// frames reads .debug_frame as Go's linker writes it (DWARF 5 section 6.4): one CIE
// and a row whenever the stack pointer moves.
func (s *symbols) frames(b []byte) error {
	for len(b) >= 4 {
		n := binary.LittleEndian.Uint32(b)
		if n == 0xffffffff || int(n)+4 > len(b) || n < 4 {
			return fmt.Errorf("frame entry of %d bytes", n)
		}
		e := b[4 : 4+n]
		b = b[4+n:]
		if binary.LittleEndian.Uint32(e) == 0xffffffff {
			continue // the CIE: data alignment -4, code alignment 1, return address in column 16
		}
		if len(e) < 20 {
			return errors.New("short frame entry")
		}
		low := binary.LittleEndian.Uint64(e[4:])
		f := s.find(low)
		if f == nil || f.low != low {
			continue
		}
		if err := f.rows(e[20:]); err != nil {
			return err
		}
	}
	return nil
}

func (f *function) rows(b []byte) error {
	pc := f.low
	f.cfa = []cfaRow{{pc, 8}} // the CIE's rule: at entry only the return address is there
	for len(b) > 0 {
		op := b[0]
		b = b[1:]
		switch {
		case op == 0: // DW_CFA_nop
		case op>>6 == 1: // DW_CFA_advance_loc
			pc += uint64(op & 0x3f)
		case op == 2 && len(b) >= 1:
			pc, b = pc+uint64(b[0]), b[1:]
		case op == 3 && len(b) >= 2:
			pc, b = pc+uint64(binary.LittleEndian.Uint16(b)), b[2:]
		case op == 4 && len(b) >= 4:
			pc, b = pc+uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case op == 0x13: // DW_CFA_def_cfa_offset_sf
			v, n := sleb(b)
			b = b[n:]
			f.cfa = append(f.cfa, cfaRow{pc, v * dataAlign})
		case op == 8: // DW_CFA_same_value
			_, n := sleb(b)
			b = b[n:]
		default:
			return fmt.Errorf("%s: frame instruction %#x", f.name, op)
		}
	}
	return nil
}

// dataAlign is the CIE's data alignment factor (cmd/link writes -4).
const dataAlign = -4

func sleb(b []byte) (v int64, n int) {
	for shift := 0; n < len(b); {
		c := b[n]
		n++
		v |= int64(c&0x7f) << shift
		if shift += 7; c&0x80 == 0 {
			if c&0x40 != 0 {
				v |= -1 << shift
			}
			break
		}
	}
	return v, n
}
