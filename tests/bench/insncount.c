/* A QEMU TCG plugin that counts guest instructions, from an address on if one is
 * given (from=0x...): the first execution of that address starts the count. It
 * prints "insns N" when QEMU ends. The declarations are those of QEMU 7.2's plugin
 * API, version 1 (docs/devel/tcg-plugins.rst), which Debian ships no header for. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum { CB_NO_REGS = 0 };
enum { INLINE_ADD_U64 = 0 };

typedef void (*tb_trans_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*vcpu_udata_cb)(unsigned int, void *);
typedef void (*udata_cb)(qemu_plugin_id_t, void *);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_trans_cb);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, vcpu_udata_cb, int, void *);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, udata_cb, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern void qemu_plugin_outs(const char *);

EXPORT int qemu_plugin_version = 1;

static uint64_t from, count;
static bool counting;

static void exec_tb(unsigned int cpu, void *n)
{
    if (counting)
        count += (uintptr_t)n; /* one vCPU, or a close enough race */
}

static void exec_first(unsigned int cpu, void *n)
{
    counting = true;
    count += (uintptr_t)n;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uintptr_t n = qemu_plugin_tb_n_insns(tb);
    bool first = from && qemu_plugin_tb_vaddr(tb) == from;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, first ? exec_first : exec_tb, CB_NO_REGS, (void *)n);
}

static void done(qemu_plugin_id_t id, void *p)
{
    char line[64];
    snprintf(line, sizeof line, "insns %" PRIu64 "\n", count);
    qemu_plugin_outs(line);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "from=", 5))
            from = strtoull(argv[i] + 5, 0, 0);
    counting = !from;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, done, 0);
    return 0;
}
