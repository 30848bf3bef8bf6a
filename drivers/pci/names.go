package pci

import "fmt"

// known names devices that people are likely to give a machine and that no driver
// takes.
var known = map[[2]uint16]string{
	{0x8086, 0x100e}: "Intel e1000 network card",
	{0x8086, 0x100f}: "Intel e1000 network card",
	{0x8086, 0x10d3}: "Intel e1000e network card",
	{0x8086, 0x10c9}: "Intel igb network card",
	{0x8086, 0x1209}: "Intel i82559 network card",
	{0x10ec, 0x8139}: "Realtek RTL8139 network card",
	{0x10ec, 0x8029}: "NE2000 network card",
	{0x15ad, 0x07b0}: "VMware vmxnet3 network card",
	{0x1022, 0x2000}: "AMD PCnet network card",
	{0x1d0f, 0xec20}: "Amazon ENA network card",
	{0x1af4, 0x1002}: "virtio memory balloon",
	{0x1af4, 0x1045}: "virtio memory balloon",
	{0x1af4, 0x1004}: "virtio SCSI controller",
	{0x1af4, 0x1048}: "virtio SCSI controller",
	{0x1af4, 0x1009}: "virtio 9p file system",
	{0x1af4, 0x1049}: "virtio 9p file system",
	{0x1af4, 0x1050}: "virtio graphics card",
	{0x1af4, 0x1053}: "virtio socket",
	{0x1af4, 0x1052}: "virtio input device",
	{0x1af4, 0x105a}: "virtio file system",
	{0x1000, 0x0012}: "LSI 53C895A SCSI controller",
	{0x15ad, 0x07c0}: "VMware paravirtual SCSI controller",
}

// Describe says in words what the function is, and what to use in its place where
// that is known: "an Intel e1000 network card at 00:03.0 is not supported; use
// virtio-net". important is false for what a server can do without (graphics,
// USB, bridges).
func (f *Function) Describe() (text string, important bool) {
	what, instead := "", ""
	switch f.Class {
	case 0x01:
		what, instead = storage(f.Subclass), "virtio-blk"
		// IDE and AHCI are on every board, most often with nothing behind them.
		important = f.Subclass != 0x01 && f.Subclass != 0x06
	case 0x02:
		what, instead, important = "network card", "virtio-net", true
	case 0x03:
		what = "graphics card"
	case 0x06:
		what = "bridge"
	case 0x0c:
		what = "serial bus controller"
	default:
		what = "PCI device"
	}
	if s, ok := known[[2]uint16{f.Vendor, f.Device}]; ok {
		what = s
	} else {
		what = fmt.Sprintf("%s (%04x:%04x)", what, f.Vendor, f.Device)
	}
	article := "a"
	switch what[0] {
	case 'A', 'I', 'E', 'O', 'U', 'a', 'e', 'i', 'o', 'L', 'N':
		article = "an"
	}
	text = fmt.Sprintf("%s %s at %v is not supported", article, what, f.Address)
	if instead != "" {
		text += "; use " + instead
	}
	return text, important
}

func storage(subclass uint8) string {
	switch subclass {
	case 0x00:
		return "SCSI controller"
	case 0x01:
		return "IDE controller"
	case 0x04:
		return "RAID controller"
	case 0x06:
		return "AHCI disk controller"
	case 0x08:
		return "NVMe disk"
	}
	return "disk controller"
}
