/* A QEMU TCG plugin that counts, for each vCPU, the instructions it executes at
 * addresses of programs (below 2^47: ring 3, and the few of firmware and the boot
 * stub). It prints "vcpu I insns N" a line when QEMU ends. The declarations are
 * those of QEMU 7.2's plugin API, version 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info;

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

enum { CPUS = 256 };
static struct { uint64_t n, pad[7]; } count[CPUS]; /* a line each: vCPUs are threads */

static void exec_tb(unsigned int cpu, void *n) { count[cpu % CPUS].n += (uintptr_t)n; }

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    if (qemu_plugin_tb_vaddr(tb) >> 47 == 0)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, exec_tb, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

static void done(qemu_plugin_id_t id, void *p)
{
    (void)id, (void)p;
    for (int i = 0; i < CPUS; i++) {
        char line[64];
        if (!count[i].n)
            continue;
        snprintf(line, sizeof line, "vcpu %d insns %" PRIu64 "\n", i, count[i].n);
        qemu_plugin_outs(line);
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, done, 0);
    return 0;
}
