/* Cases about interrupts: what is set up, and what is no event descriptor. Answers: interrupts.toml. */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/eventfd.h>

#define NONE VFIO_IRQ_SET_DATA_NONE
#define BOOL VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define MASK VFIO_IRQ_SET_ACTION_MASK
#define UNMASK VFIO_IRQ_SET_ACTION_UNMASK
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER
#define INTX VFIO_PCI_INTX_IRQ_INDEX
#define MSI VFIO_PCI_MSI_IRQ_INDEX
#define MSIX VFIO_PCI_MSIX_IRQ_INDEX
#define ERR VFIO_PCI_ERR_IRQ_INDEX
#define REQ VFIO_PCI_REQ_IRQ_INDEX

/* Room for the data of eight vectors. */
struct irqs {
	struct vfio_irq_set set;
	union {
		int32_t fds[8];
		uint8_t flags[32];
	} data;
};

/* `size`: bytes of data that are said to follow. */
static void irqs_sized(const char *name, int device, uint32_t flags, uint32_t index, uint32_t start,
		       uint32_t count, struct irqs *irqs, size_t size)
{
	irqs->set = (struct vfio_irq_set){ .argsz = sizeof(irqs->set) + size, .flags = flags,
					   .index = index, .start = start, .count = count };
	ASK(name, device, VFIO_DEVICE_SET_IRQS, irqs);
}

/* Without descriptors; a vector's flag is 1. */
static void plain(const char *name, int device, uint32_t flags, uint32_t index, uint32_t start,
		  uint32_t count)
{
	struct irqs irqs;

	memset(&irqs.data, 1, sizeof(irqs.data));
	irqs_sized(name, device, flags, index, start, count, &irqs, flags & BOOL ? count : 0);
}

/* One descriptor. */
static void give(const char *name, int device, uint32_t index, uint32_t start, int fd)
{
	struct irqs irqs = { .data.fds = { fd } };

	irqs_sized(name, device, EVENTFD | TRIGGER, index, start, 1, &irqs, 4);
}

static void give3(const char *name, int device, uint32_t index, uint32_t start, int a, int b, int c)
{
	struct irqs irqs = { .data.fds = { a, b, c } };

	irqs_sized(name, device, EVENTFD | TRIGGER, index, start, 3, &irqs, 12);
}

static void unmask_by(const char *name, int device, int fd)
{
	struct irqs irqs = { .data.fds = { fd } };

	irqs_sized(name, device, EVENTFD | UNMASK, INTX, 0, 1, &irqs, 4);
}

static int event(int flags)
{
	int fd = eventfd(0, flags);

	need(fd >= 0, "eventfd");
	return fd;
}

/* Events that came since the last time. */
static void came(const char *name, int fd)
{
	uint64_t count = 0;
	ssize_t got;

	errno = 0;
	got = read(fd, &count, sizeof(count));
	answer(name, got, "count=%llu", (unsigned long long)count);
}

static void info_of(const char *name, int device, uint32_t index, uint32_t argsz)
{
	struct vfio_irq_info info = { .argsz = argsz, .index = index, .flags = 0xff, .count = 99 };

	ASK(name, device, VFIO_DEVICE_GET_IRQ_INFO, &info, "flags=%#x", info.flags);
}

/* What there is, and requests that are refused before anything is looked at. */
static void irq_requests(struct descriptors *d)
{
	int device = d->devices[0], fd = event(EFD_NONBLOCK);
	struct irqs irqs = { .data.fds = { fd, fd, fd, fd } };
	char *page = memory(2 * PAGE, PROT_READ | PROT_WRITE);

	bind_device(d, 0);
	info_of("info-intx", device, INTX, 16);
	info_of("info-msi", device, MSI, 16);
	info_of("info-msix", device, MSIX, 16);
	info_of("info-err", device, ERR, 16);
	info_of("info-req", device, REQ, 16);
	info_of("info-beyond", device, 5, 16);
	info_of("info-far-beyond", device, 0xffffffff, 16);
	info_of("info-too-short", device, INTX, 15);
	info_of("info-of-size-0", device, INTX, 0);
	info_of("info-longer", device, INTX, 4096);
	ASK("info-at-nothing", device, VFIO_DEVICE_GET_IRQ_INFO, NULL);

	plain("index-beyond", device, NONE | TRIGGER, 5, 0, 0);
	plain("index-far-beyond", device, NONE | TRIGGER, 0xffffffff, 0, 0);
	plain("start-beyond", device, NONE | TRIGGER, INTX, 1, 0);
	plain("count-beyond", device, NONE | TRIGGER, INTX, 0, 2);
	plain("count-wraps", device, NONE | TRIGGER, MSIX, 1, 0xffffffff);
	plain("count-wraps-to-start", device, NONE | TRIGGER, MSIX, 2, 0xfffffffe);
	plain("msi-is-not-there", device, NONE | TRIGGER, MSI, 0, 0);
	plain("unknown-flag", device, NONE | TRIGGER | 1 << 6, INTX, 0, 0);
	plain("unknown-high-flag", device, NONE | TRIGGER | 1u << 31, INTX, 0, 0);
	plain("no-data-type", device, TRIGGER, INTX, 0, 0);
	plain("two-data-types", device, NONE | BOOL | TRIGGER, INTX, 0, 0);
	plain("three-data-types", device, NONE | BOOL | EVENTFD | TRIGGER, INTX, 0, 0);
	plain("no-action", device, NONE, INTX, 0, 1);
	plain("two-actions", device, NONE | MASK | TRIGGER, INTX, 0, 1);
	plain("three-actions", device, NONE | MASK | UNMASK | TRIGGER, INTX, 0, 1);
	plain("mask-msix", device, NONE | MASK, MSIX, 0, 1);
	plain("unmask-msix", device, NONE | UNMASK, MSIX, 0, 1);
	plain("mask-err", device, NONE | MASK, ERR, 0, 1);
	plain("unmask-req", device, NONE | UNMASK, REQ, 0, 1);
	irqs_sized("no-room-for-a-descriptor", device, EVENTFD | TRIGGER, INTX, 0, 1, &irqs, 3);
	irqs_sized("no-room-for-two", device, EVENTFD | TRIGGER, MSIX, 0, 2, &irqs, 7);
	irqs_sized("no-room-for-a-flag", device, BOOL | TRIGGER, MSIX, 0, 2, &irqs, 1);

	irqs.set = (struct vfio_irq_set){ .argsz = 19, .flags = NONE | TRIGGER, .index = INTX };
	ASK("too-short", device, VFIO_DEVICE_SET_IRQS, &irqs);
	irqs.set.argsz = 0;
	ASK("of-size-0", device, VFIO_DEVICE_SET_IRQS, &irqs);
	ASK("at-nothing", device, VFIO_DEVICE_SET_IRQS, NULL);
	need(mprotect(page + PAGE, PAGE, PROT_NONE) == 0, "mprotect");
	irqs.set = (struct vfio_irq_set){ .argsz = 24, .flags = EVENTFD | TRIGGER, .count = 1 };
	memcpy(page + PAGE - sizeof(irqs.set), &irqs.set, sizeof(irqs.set));
	ASK("data-at-nothing", device, VFIO_DEVICE_SET_IRQS, page + PAGE - sizeof(irqs.set));
	ASK("half-at-nothing", device, VFIO_DEVICE_SET_IRQS, page + PAGE - 10);
	irqs.set.argsz = 0xffffffff;
	memcpy(&irqs.data.fds[0], &fd, 4);
	ASK("size-far-too-large", device, VFIO_DEVICE_SET_IRQS, &irqs);
	came("nothing-came", fd);
}

/* INTx: one descriptor that is raised, one that unmasks. */
static void irq_intx(struct descriptors *d)
{
	int device = d->devices[0], fd = event(EFD_NONBLOCK), second = event(EFD_NONBLOCK);
	int unmask = event(EFD_NONBLOCK), file = open("/", O_RDONLY);
	struct irqs none = { 0 };

	bind_device(d, 0);
	plain("off-before", device, NONE | TRIGGER, INTX, 0, 0);
	plain("raise-before", device, NONE | TRIGGER, INTX, 0, 1);
	plain("mask-before", device, NONE | MASK, INTX, 0, 1);
	plain("unmask-before", device, NONE | UNMASK, INTX, 0, 1);
	unmask_by("unmask-by-before", device, unmask);
	irqs_sized("no-descriptors", device, EVENTFD | TRIGGER, INTX, 0, 0, &none, 0);
	give("closed", device, INTX, 0, 1000);
	plain("raise-after-closed", device, NONE | TRIGGER, INTX, 0, 1);
	give("file", device, INTX, 0, file);
	plain("raise-after-file", device, NONE | TRIGGER, INTX, 0, 1);
	give("set-up", device, INTX, 0, fd);
	plain("raise", device, NONE | TRIGGER, INTX, 0, 1);
	came("raised", fd);
	plain("raise-flag", device, BOOL | TRIGGER, INTX, 0, 1);
	came("raised-by-flag", fd);
	irqs_sized("raise-flag-0", device, BOOL | TRIGGER, INTX, 0, 1, &none, 1);
	came("not-raised-by-flag", fd);
	plain("raise-no-vectors", device, BOOL | TRIGGER, INTX, 0, 0);
	give("closed-later", device, INTX, 0, 1000);
	give("file-later", device, INTX, 0, file);
	plain("raise-again", device, NONE | TRIGGER, INTX, 0, 1);
	came("the-first-is-still-there", fd);
	give("replace", device, INTX, 0, second);
	plain("raise-second", device, NONE | TRIGGER, INTX, 0, 1);
	came("second-raised", second);
	came("first-not-raised", fd);
	give("take-away", device, INTX, 0, -1);
	plain("raise-without", device, NONE | TRIGGER, INTX, 0, 1);
	came("not-raised-without", second);
	give("take-away-by-another-number", device, INTX, 0, -7);
	give("msix-meanwhile", device, MSIX, 0, fd);
	plain("mask", device, NONE | MASK, INTX, 0, 1);
	plain("mask-again", device, NONE | MASK, INTX, 0, 1);
	plain("mask-no-vectors", device, NONE | MASK, INTX, 0, 0);
	plain("unmask", device, NONE | UNMASK, INTX, 0, 1);
	plain("unmask-again", device, NONE | UNMASK, INTX, 0, 1);
	plain("unmask-no-vectors", device, NONE | UNMASK, INTX, 0, 0);
	irqs_sized("mask-by", device, EVENTFD | MASK, INTX, 0, 1, &none, 4);
	unmask_by("unmask-by-closed", device, 1000);
	unmask_by("unmask-by-file", device, file);
	unmask_by("unmask-by-none", device, -1);
	unmask_by("unmask-by", device, unmask);
	unmask_by("unmask-by-the-same", device, unmask);
	unmask_by("unmask-by-another", device, second);
	unmask_by("unmask-by-closed-later", device, 1000);
	unmask_by("unmask-by-file-later", device, file);
	unmask_by("unmask-by-none-later", device, -9);
	unmask_by("unmask-by-another-then", device, second);
	plain("off", device, NONE | TRIGGER, INTX, 0, 0);
	plain("off-again", device, NONE | TRIGGER, INTX, 0, 0);
	give("set-up-without", device, INTX, 0, -1);
	plain("off-after-without", device, NONE | TRIGGER, INTX, 0, 0);
	give("set-up-anew", device, INTX, 0, fd);
	unmask_by("unmask-by-anew", device, unmask);
}

/* MSI-X, of four vectors or more. */
static void irq_msix(struct descriptors *d)
{
	int device = d->devices[0], file = open("/", O_RDONLY), fds[4];
	struct irqs none = { 0 };

	for (int at = 0; at < 4; at++)
		fds[at] = event(EFD_NONBLOCK);
	bind_device(d, 0);
	plain("off-before", device, NONE | TRIGGER, MSIX, 0, 0);
	plain("raise-before", device, NONE | TRIGGER, MSIX, 0, 1);
	irqs_sized("no-descriptors", device, EVENTFD | TRIGGER, MSIX, 0, 0, &none, 0);
	plain("off-after-none", device, NONE | TRIGGER, MSIX, 0, 0);
	irqs_sized("no-descriptors-from-2", device, EVENTFD | TRIGGER, MSIX, 2, 0, &none, 0);
	give("intx-meanwhile", device, INTX, 0, fds[0]);
	plain("off-after-none-from-2", device, NONE | TRIGGER, MSIX, 0, 0);
	give3("file-among-them", device, MSIX, 0, fds[0], file, fds[2]);
	plain("off-after-file", device, NONE | TRIGGER, MSIX, 0, 0);
	give3("closed-among-them", device, MSIX, 0, fds[0], 1000, fds[2]);
	plain("off-after-closed", device, NONE | TRIGGER, MSIX, 0, 0);
	give3("set-up", device, MSIX, 0, fds[0], fds[1], fds[2]);
	plain("raise", device, NONE | TRIGGER, MSIX, 0, 3);
	came("raised-0", fds[0]);
	came("raised-1", fds[1]);
	came("raised-2", fds[2]);
	plain("raise-one-that-has-none", device, NONE | TRIGGER, MSIX, 3, 1);
	irqs_sized("raise-by-flags-0", device, BOOL | TRIGGER, MSIX, 0, 3, &none, 3);
	came("not-raised-by-flags", fds[0]);
	plain("raise-no-vectors", device, BOOL | TRIGGER, MSIX, 0, 0);
	give("one-more", device, MSIX, 3, fds[3]);
	plain("raise-one-more", device, NONE | TRIGGER, MSIX, 3, 1);
	came("one-more-raised", fds[3]);
	irqs_sized("no-descriptors-later", device, EVENTFD | TRIGGER, MSIX, 0, 0, &none, 0);
	give3("file-among-them-later", device, MSIX, 1, fds[0], file, fds[2]);
	plain("raise-all", device, NONE | TRIGGER, MSIX, 0, 4);
	came("before-it-is-left", fds[0]);
	came("the-one-before-the-file-is-gone", fds[1]);
	came("the-file-took-its-own-away", fds[2]);
	came("the-one-behind-it-is-left", fds[3]);
	give("closed-over-one", device, MSIX, 0, 1000);
	plain("raise-that-one", device, NONE | TRIGGER, MSIX, 0, 1);
	came("that-one-is-gone", fds[0]);
	give("take-away-by-another-number", device, MSIX, 3, -5);
	plain("raise-what-is-gone", device, NONE | TRIGGER, MSIX, 0, 4);
	came("nothing-came", fds[3]);
	give("intx-later", device, INTX, 0, fds[0]);
	plain("intx-off", device, NONE | TRIGGER, INTX, 0, 0);
	plain("off", device, NONE | TRIGGER, MSIX, 0, 0);
	plain("off-again", device, NONE | TRIGGER, MSIX, 0, 0);
	give("intx-then", device, INTX, 0, fds[0]);
}

/* Errors and requests, which are alike. */
static void single(int device, uint32_t index, int fd, int file)
{
	struct irqs none = { 0 };

	plain("off-before", device, NONE | TRIGGER, index, 0, 0);
	plain("raise-before", device, NONE | TRIGGER, index, 0, 1);
	plain("raise-flag-before", device, BOOL | TRIGGER, index, 0, 1);
	give("closed", device, index, 0, 1000);
	give("file", device, index, 0, file);
	plain("off-after-file", device, NONE | TRIGGER, index, 0, 0);
	give("none", device, index, 0, -1);
	give("another-negative-number", device, index, 0, -2);
	give("set-up", device, index, 0, fd);
	plain("raise", device, NONE | TRIGGER, index, 0, 1);
	came("raised", fd);
	plain("raise-flag", device, BOOL | TRIGGER, index, 0, 1);
	came("raised-by-flag", fd);
	irqs_sized("raise-flag-0", device, BOOL | TRIGGER, index, 0, 1, &none, 1);
	plain("raise-no-vectors", device, BOOL | TRIGGER, index, 0, 0);
	irqs_sized("no-descriptors", device, EVENTFD | TRIGGER, index, 0, 0, &none, 0);
	give("another-negative-number-later", device, index, 0, -2);
	give("file-later", device, index, 0, file);
	plain("raise-again", device, NONE | TRIGGER, index, 0, 1);
	came("it-is-still-there", fd);
	plain("off", device, NONE | TRIGGER, index, 0, 0);
	plain("off-again", device, NONE | TRIGGER, index, 0, 0);
}

static void irq_err(struct descriptors *d)
{
	bind_device(d, 0);
	single(d->devices[0], ERR, event(EFD_NONBLOCK), open("/", O_RDONLY));
}

static void irq_req(struct descriptors *d)
{
	bind_device(d, 0);
	single(d->devices[0], REQ, event(EFD_NONBLOCK), open("/", O_RDONLY));
}

/* Descriptors on which a write, or a read, would wait for ever. */
static void irq_waits(struct descriptors *d)
{
	int device = d->devices[0], fd = event(0), ends[2];
	uint64_t full = UINT64_MAX - 1, empty = 0;
	static char filling[1 << 16];

	bind_device(d, 0);
	need(pipe2(ends, O_NONBLOCK) == 0, "pipe2");
	while (write(ends[1], filling, sizeof(filling)) > 0)
		;
	need(fcntl(ends[1], F_SETFL, 0) == 0, "F_SETFL");
	give("full-pipe", device, MSIX, 0, ends[1]);
	give("empty-pipe", device, ERR, 0, ends[0]);
	give("set-up", device, MSIX, 0, fd);
	need(write(fd, &full, sizeof(full)) == sizeof(full), "fill it");
	plain("raise-what-is-full", device, NONE | TRIGGER, MSIX, 0, 1);
	plain("off", device, NONE | TRIGGER, MSIX, 0, 0);
	need(read(fd, &empty, sizeof(empty)) == sizeof(empty), "empty it");
	give("intx", device, INTX, 0, event(0));
	unmask_by("unmask-by-a-pipe", device, ends[0]);
	unmask_by("unmask-by", device, fd);
	full = 1;
	need(write(fd, &full, sizeof(full)) == sizeof(full), "unmask");
	plain("intx-off", device, NONE | TRIGGER, INTX, 0, 0);
	errno = 0;
	answer("flags-are-left", fcntl(fd, F_GETFL) & O_NONBLOCK, "");
}

const struct group interrupt_groups[] = {
	{ "irq-requests", irq_requests },
	{ "irq-intx", irq_intx },
	{ "irq-msix", irq_msix },
	{ "irq-err", irq_err },
	{ "irq-req", irq_req },
	{ "irq-waits", irq_waits },
	{ 0 },
};
