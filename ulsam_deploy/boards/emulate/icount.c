/* A qemu plugin that counts what one thread of the emulated program executes between marks, by class and by place.
 *
 * A mark is the system call ioctl on the impossible file descriptor 0x7A110000 | kind | phase: kind 0x100 begins, 0x200
 * ends. At each mark the totals so far are written to the file given as out=FILE; at exit the instructions that each
 * place executed inside phase KEEP (see guest.py). Classes follow the encoding table of the Arm Architecture Reference
 * Manual (DDI 0487, C4.1); for 32-bit programs only the total is counted.
 *
 * Written against the functions below, which every qemu since 4.2 exports; only the bytes of an instruction are asked
 * for in another way since 9.1. Compile with -DAPI=1 (before 9.0), 2 (9.0) or 3.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct { const char *target_name; } qemu_info_t; /* the first field of it, which is all that is used */
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*on_block_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*on_run_t)(unsigned, void *);
typedef void (*on_call_t)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t, uint64_t);
typedef void (*on_exit_t)(qemu_plugin_id_t, void *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, on_block_t);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_run_t, enum qemu_plugin_cb_flags, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, on_call_t);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, on_exit_t, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
#if API >= 3
extern size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#else
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#endif
#define SHOWN __attribute__((visibility("default")))
SHOWN int qemu_plugin_version = API;

enum { ALL, MEMORY, BRANCH, SIMD, FMA, DOT, CLASSES };
enum { MARK = 0x7A110000, MARK_BITS = 0x7FFF0000, BEGIN = 0x100, END = 0x200, KEEP = 4 };

/* A block of instructions that runs from its first to its last one; a flush of qemu's cache may translate it again. */
struct block {
    struct block *next;
    uint64_t address, runs, before, kept;
    uint16_t of[CLASSES];
};
static struct block *blocks;
static bool wide;
static FILE *out;

/* The classes of one AArch64 instruction, as bits. SIMD is every floating-point or vector computation; FMA and DOT are
 * parts of it; loads and stores of vectors are MEMORY. */
SHOWN unsigned icount_classes(uint32_t w)
{
    unsigned group = w >> 25 & 15;
    if ((group & 5) == 4)
        return 1 << MEMORY;
    if ((group & 14) == 10) /* branches, and exceptions and system instructions, whose bits 31..29 are 110 */
        return (w >> 29 & 7) == 6 && (w >> 25 & 1) == 0 ? 0 : 1 << BRANCH;
    if ((group & 7) != 7)
        return 0;
    bool fma = (w & 0xBF20FC00) == 0x0E20CC00    /* FMLA, FMLS: vectors */
               || (w & 0xBF60FC00) == 0x0E400C00 /* the same on half precision */
               || (w & 0xBF80B400) == 0x0F801000 /* by element */
               || (w & 0xBFC0B400) == 0x0F001000 /* by element of half precision */
               || (w & 0xFF000000) == 0x1F000000; /* FMADD, FMSUB, FNMADD, FNMSUB: scalars */
    bool dot = (w & 0x9F20FC00) == 0x0E009400    /* SDOT, UDOT: vectors */
               || (w & 0x9F00F400) == 0x0F00E000; /* by element */
    return 1 << SIMD | fma << FMA | dot << DOT;
}

static void on_run(unsigned cpu, void *data)
{
    (void)cpu;
    ((struct block *)data)->runs++;
}

static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        abort();
    size_t count = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        uint32_t word = 0;
#if API >= 3
        qemu_plugin_insn_data(instruction, &word, sizeof word);
#else
        if (wide)
            memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
#endif
        unsigned found = (wide ? icount_classes(word) : 0) | 1 << ALL;
        for (int c = 0; c < CLASSES; c++)
            block->of[c] += found >> c & 1;
    }
    block->address = qemu_plugin_tb_vaddr(tb);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_run, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void on_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                    uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != (wide ? 29 : 54) || (a1 & MARK_BITS) != MARK)
        return;
    uint64_t total[CLASSES] = {0};
    bool kept = (a1 & 0xFF) == KEEP;
    for (struct block *block = blocks; block; block = block->next) {
        for (int c = 0; c < CLASSES; c++)
            total[c] += block->runs * block->of[c];
        if (kept && a1 & BEGIN)
            block->before = block->runs;
        else if (kept)
            block->kept += block->runs - block->before;
        /* A block translated inside the phase began at 0: before is 0 then, as it should be. */
    }
    fprintf(out, "mark %u", (unsigned)(a1 & 0xFFFF));
    for (int c = 0; c < CLASSES; c++)
        fprintf(out, " %" PRIu64, total[c]);
    fputc('\n', out);
}

static void on_exit_of_program(qemu_plugin_id_t id, void *data)
{
    (void)id, (void)data;
    for (struct block *block = blocks; block; block = block->next)
        if (block->kept)
            fprintf(out, "at %" PRIx64 " %" PRIu64 "\n", block->address, block->kept * block->of[ALL]);
    fclose(out);
}

SHOWN int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count, char **words)
{
    wide = !strcmp(info->target_name, "aarch64");
    for (int i = 0; i < count; i++)
        if (!strncmp(words[i], "out=", 4))
            out = fopen(words[i] + 4, "w");
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    qemu_plugin_register_atexit_cb(id, on_exit_of_program, NULL);
    return 0;
}
