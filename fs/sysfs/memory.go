package sysfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"kiln/fs/pseudo"
	"kiln/kernel/hal"
	"kiln/kernel/wait"
)

// memoryBlock is the size of a block of memory that Linux would take in or out as one, on
// machines below 64 GiB (MIN_MEMORY_BLOCK_SIZE), in bytes.
const memoryBlock = 128 << 20

// memory is devices/system/memory, which lsmem reads: the blocks of memory from address 0
// up. They are all online and stay so, as the kernel's pages cannot be moved.
func (t *tree) memory(d *pseudo.Dir) {
	d.Const("block_size_bytes", strconv.FormatInt(memoryBlock, 16)+"\n")
	d.Const("auto_online_blocks", "offline\n")
	blocks := (t.cfg.Mem.TotalPages()*hal.PageSize + memoryBlock - 1) / memoryBlock
	for i := range int(blocks) {
		b := d.Mkdir("memory" + strconv.Itoa(i))
		b.Const("phys_index", fmt.Sprintf("%08x\n", i))
		b.Const("phys_device", "0\n")
		b.Const("removable", "1\n") // whatever the block: it says that "offline" may be tried
		b.Const("valid_zones", "none\n")
		b.Symlink("node0", "../../node/node0")
		t.stored(b, "state", "online\n", func(v string) error {
			if v == "offline" {
				return unix.EBUSY
			}
			return unix.EINVAL // also for a block that is online
		})
		t.stored(b, "online", "1\n", func(v string) error {
			on, err := strconv.ParseBool(v)
			switch {
			case err != nil:
				return unix.EINVAL
			case !on:
				return unix.EBUSY
			}
			return nil
		})
	}
}

// stored adds a file of one value that store is asked to change.
func (t *tree) stored(d *pseudo.Dir, name, text string, store func(v string) error) {
	d.Add(name, t.NewFile(0o644, 0, func(_ wait.Context, b *bytes.Buffer) error { b.WriteString(text); return nil },
		func(_ wait.Context, data []byte) error { return store(strings.TrimSuffix(string(data), "\n")) }))
}
