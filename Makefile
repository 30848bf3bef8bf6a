# Kiln. `make run` and `make test` are the two commands a newcomer needs; both do
# all their set-up. Everything lands in build/.

GO      ?= go
BUILD   := build
KERNEL  := $(BUILD)/kernel.elf
PROCESS := $(BUILD)/kernel.process
PACK    := $(BUILD)/pack
# The kernel is an ordinary Go program linked into the upper half:
# -2145386496 is 0xffffffff80200000 (kernel/image/layout.go, KernelVirt).
KLDFLAGS := -T -2145386496 -E kiln/kernel/metal.start \
	-X runtime.godebugDefault=decoratemappings=0,madvdontneed=1
KBUILD   := GOOS=linux GOARCH=amd64 GOAMD64=v1 $(GO) build -trimpath
export PATH := $(PATH):/usr/local/go/bin
export CGO_ENABLED := 0

.PHONY: all kernel kernel-symbols pgo pack run test accept repeat bench check setup generate clean
all: kernel pack

setup:
	@./.ci/setup

kernel: $(KERNEL) $(PROCESS)
pack: $(PACK)

.PHONY: $(KERNEL) $(PROCESS) $(PACK)
$(KERNEL):
	@mkdir -p $(BUILD)
	$(KBUILD) -ldflags '-s -w $(KLDFLAGS)' -o $(BUILD)/kernel.unlinked ./cmd/kernel
	$(GO) run ./cmd/mkkernel $(BUILD)/kernel.unlinked $(KERNEL)

# The same kernel as a process of the host, for pack run --vmm process.
$(PROCESS):
	@mkdir -p $(BUILD)
	$(KBUILD) -ldflags '-s -w' -o $(PROCESS) ./cmd/process

# The same kernel with symbols and DWARF, for profiles and debuggers.
SYMBOLS := $(BUILD)/kernel.symbols
kernel-symbols:
	@mkdir -p $(BUILD)
	$(KBUILD) -ldflags '$(KLDFLAGS)' -o $(SYMBOLS) ./cmd/kernel

# Records cmd/kernel/default.pgo anew, which every build of the kernel uses.
pgo: setup kernel pack
	$(GO) run ./tests/cmd/pgo

$(PACK):
	@mkdir -p $(BUILD)
	$(GO) build -trimpath -o $(PACK) ./cmd/pack

# Bake nginx, boot it, fetch its page and show it.
run: setup kernel pack
	$(GO) run ./tests/cmd/demo

# Everything in its quick size; closes with "N passed, N failed".
test: setup kernel pack
	$(GO) run ./tests/cmd/runtests

# Full counts, all catalogue entries, soaks: hours, resumable, a line a case.
accept: setup kernel pack
	KILN_ACCEPT=1 $(GO) run ./tests/cmd/accept

# Every boot of make test 20 times on 1, 2 and 4 CPUs: many hours, resumable, a line a case.
repeat: setup kernel pack
	$(GO) run ./tests/cmd/accept -quick -runs 20

bench: setup kernel pack
	$(GO) run ./tests/cmd/bench

check:
	$(GO) vet ./...
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "not formatted by gofmt"; exit 1; }
	$(GO) test ./tests/layering

generate:
	$(GO) generate ./...

clean:
	rm -rf $(BUILD)
