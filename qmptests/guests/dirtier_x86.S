/*
 * The dirtier: a boot program that writes memory in a known pattern and says that it lives.
 *
 * It is the machine's firmware (-bios), so nothing else runs: no BIOS, no boot device. What it
 * writes and prints is described in docs/explanation/guests.md; pattern.py checks the one,
 * console.py reads the other. It needs what every pc and q35 machine has at its legacy addresses:
 * one CPU, the 8254 timer, the 8259 interrupt controller and a 16550 serial port.
 *
 * All of its state is in registers and in guest memory, and its clock is the machine's own timer:
 * it goes on at the destination of a migration as if nothing had happened.
 *
 * Assembled by assemble.py into dirtier_x86.bin. image.py puts that at the start of a 64 KiB
 * image, fills in the parameters (the last bytes of the binary) and adds the jump at the CPU's
 * reset address. The image appears twice: at 0xffff0000, where we are linked, and below 1 MiB.
 */

        .set    PAGE_SIZE, 4096
        .set    VALUE_STEP, 0x3c6ef362          /* added to the value from page to page; even */
        .set    MOST_PAGES_AT_ONCE, 4096        /* written before the clock is read again */
        .set    PAGES_UNPACED, 512              /* the same, at full speed */

        /* Ports. */
        .set    PIC_COMMAND, 0x20
        .set    PIC_DATA, 0x21
        .set    PIT_CHANNEL_0, 0x40
        .set    PIT_CHANNEL_2, 0x42
        .set    PIT_CONTROL, 0x43
        .set    SYSTEM_CONTROL_B, 0x61          /* bit 0: the gate of timer channel 2 */
        .set    SYSTEM_CONTROL_A, 0x92          /* bit 1: address line 20; bit 0: reset! */
        .set    SERIAL, 0x3f8
        .set    SERIAL_STATUS, SERIAL + 5
        .set    TRANSMITTER_EMPTY, 0x20

        /* The CPU's own interrupt controller. */
        .set    APIC_SPURIOUS, 0xfee000f0
        .set    APIC_LINT0, 0xfee00350

        .set    VECTOR_BASE, 0x20
        .set    WAKE_TICKS, 1193                /* 1 ms of the timer's 1.193182 MHz */

        /* Our variables, in conventional memory; the stack grows down from them. */
        .set    STACK_TOP, 0x7000
        .set    last_tick, 0x7000               /* timer channel 2 when it was last read */
        .set    page_fraction, 0x7004           /* pages owed, the part below 1, in 2^-32 */
        .set    report_due, 0x7008              /* ticks until the next report */
        .set    reports, 0x700c                 /* the counter: reports due so far */
        .set    pages_written, 0x7010           /* after the first fill, modulo 2^32 */

        .text
        .globl  _start

/* Real mode, at 0xffff0000: the reset vector's jump leads here. */
        .code16
_start:
        cli
        cld
        lgdtl   %cs:(gdt_pointer - _start)
        movl    $0x11, %eax                     /* protected mode; caches on */
        movl    %eax, %cr0
        ljmpl   $0x08, $protected_mode

        .code32
protected_mode:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $STACK_TOP, %esp
        lidt    idt_pointer

        inb     $SYSTEM_CONTROL_A, %al          /* address line 20 on */
        orb     $0x02, %al
        andb    $0xfe, %al
        outb    %al, $SYSTEM_CONTROL_A

        movl    $0x1ff, APIC_SPURIOUS           /* enabled */
        movl    $0x700, APIC_LINT0              /* what comes from the 8259 gets through */

        movl    $port_writes, %esi
next_port:
        xorl    %eax, %eax
        lodsw
        movl    %eax, %edx
        testl   %eax, %eax
        jz      fill
        lodsb
        outb    %al, %dx
        jmp     next_port

/*
 * The first pass fills every page with its own value and marks it with generation 1.
 * Here and below: ebx generation, edi address of the next page, ebp its value, esi pages left in
 * this pass.
 */
fill:
        movl    $1, %ebx
        call    first_page
fill_page:
        movl    %ebp, %eax
        movl    $PAGE_SIZE / 4, %ecx
        rep stosl
        movl    %ebx, -PAGE_SIZE(%edi)
        addl    $VALUE_STEP, %ebp
        decl    %esi
        jnz     fill_page

        movl    $text_start, %esi
        call    print
        movl    parameter_start, %eax
        call    print_hex
        call    print                           /* goes on behind the text's last zero */
        movl    parameter_pages, %eax
        shll    $12, %eax
        call    print_hex
        call    print
        movl    parameter_seed, %eax
        call    print_hex
        call    print

        xorl    %eax, %eax
        movl    %eax, page_fraction
        movl    %eax, reports
        movl    %eax, pages_written
        movl    parameter_report_ticks, %eax
        movl    %eax, report_due
        call    ticks_passed                    /* only to set last_tick */
        call    next_pass

/* For ever: see how much time has passed, report if it is time to, write the pages due. */
run:
        call    ticks_passed
        subl    %eax, report_due
        ja      no_report
        pushl   %eax
        call    report
        popl    %eax
no_report:
        movl    $PAGES_UNPACED, %ecx
        cmpl    $0, parameter_pages_per_tick
        je      write_pages

        mull    parameter_pages_per_tick        /* edx whole pages, eax the fraction */
        addl    %eax, page_fraction
        adcl    $0, %edx
        movl    $MOST_PAGES_AT_ONCE, %ecx       /* after a long pause: don't try to catch up */
        cmpl    %ecx, %edx
        ja      write_pages
        movl    %edx, %ecx
        jecxz   rest

write_pages:
        addl    %ecx, pages_written
write_page:
        movl    %ebx, (%edi)
        movl    %ebp, 4(%edi)
        addl    $PAGE_SIZE, %edi
        addl    $VALUE_STEP, %ebp
        decl    %esi
        jnz     same_pass
        call    next_pass
same_pass:
        decl    %ecx
        jnz     write_page
        cmpl    $0, parameter_pages_per_tick
        je      run

rest:
        sti                                     /* takes effect after hlt has begun */
        hlt                                     /* until timer channel 0 interrupts */

/*
 * The interrupt's handler. Interrupts are on only in hlt and the 8259 acknowledges by itself, so
 * nothing is left to do but to go on. There is no iret: where KVM has to interpret every
 * instruction (nested, without hardware help) it does not know it in protected mode.
 */
interrupt:
        cli
        movl    $STACK_TOP, %esp
        jmp     run

next_pass:
        incl    %ebx
first_page:
        movl    parameter_start, %edi
        movl    parameter_first_value, %ebp
        movl    parameter_pages, %esi
        ret

/* eax: ticks since the last call, modulo 65536 (55 ms). Channel 2 counts down without end. */
ticks_passed:
        movb    $0x80, %al                      /* latch channel 2 */
        outb    %al, $PIT_CONTROL
        inb     $PIT_CHANNEL_2, %al
        movb    %al, %ah
        inb     $PIT_CHANNEL_2, %al
        xchgb   %al, %ah
        movzwl  %ax, %ecx
        movl    last_tick, %eax
        movl    %ecx, last_tick
        subl    %ecx, %eax
        movzwl  %ax, %eax
        ret

/*
 * One line with the counter and the pages written. If nobody takes what we say the line is left
 * out, but counted: the guest must not stand still because of its console.
 */
report:
        movl    parameter_report_ticks, %eax
        addl    %eax, report_due
        jg      on_time
        movl    %eax, report_due                /* more than one interval late */
on_time:
        incl    reports
        movl    $SERIAL_STATUS, %edx
        inb     %dx, %al
        testb   $TRANSMITTER_EMPTY, %al
        jz      report_done
        pushl   %esi
        movl    $text_report, %esi
        call    print
        movl    reports, %eax
        call    print_hex
        call    print
        movl    pages_written, %eax
        call    print_hex
        call    print
        popl    %esi
report_done:
        ret

/* Print the text at esi up to a zero byte; esi is left behind that. */
print:
        lodsb
        testb   %al, %al
        jz      print_done
        call    print_character
        jmp     print
print_done:
        ret

/* Print eax as eight hexadecimal digits. */
print_hex:
        movl    $8, %ecx
next_digit:
        roll    $4, %eax
        pushl   %eax
        andl    $15, %eax
        movb    digits(%eax), %al
        call    print_character
        popl    %eax
        decl    %ecx
        jnz     next_digit
        ret

/* Send al when the port is free; give it up if it is not for a long time. Changes edx. */
print_character:
        pushl   %ecx
        movb    %al, %ah
        movl    $0x10000, %ecx
        movl    $SERIAL_STATUS, %edx
transmitter_busy:
        inb     %dx, %al
        testb   $TRANSMITTER_EMPTY, %al
        jnz     transmitter_free
        decl    %ecx
        jnz     transmitter_busy
        jmp     character_done
transmitter_free:
        movb    %ah, %al
        movl    $SERIAL, %edx
        outb    %al, %dx
character_done:
        popl    %ecx
        ret

/* What sets up the devices, in order: port, byte. A port of zero ends the list. */
        .macro  port_write port, value
        .word   \port
        .byte   \value
        .endm
port_writes:
        port_write SERIAL + 3, 0x80             /* divisor: 1, 115200 baud */
        port_write SERIAL + 0, 0x01
        port_write SERIAL + 1, 0x00
        port_write SERIAL + 3, 0x03             /* 8 bits, no parity, 1 stop bit */
        port_write SERIAL + 1, 0x00             /* no interrupts, */
        port_write SERIAL + 2, 0x00             /* no FIFO */
        port_write SYSTEM_CONTROL_B, 0x01       /* channel 2 counts, the speaker is off */
        port_write PIT_CONTROL, 0xb4            /* channel 2, rate generator, */
        port_write PIT_CHANNEL_2, 0x00          /* from 65536 down, again and again: our clock */
        port_write PIT_CHANNEL_2, 0x00
        port_write PIT_CONTROL, 0x34            /* channel 0, rate generator: wakes us */
        port_write PIT_CHANNEL_0, WAKE_TICKS & 0xff
        port_write PIT_CHANNEL_0, WAKE_TICKS >> 8
        port_write PIC_COMMAND, 0x11            /* initialise: edge triggered, four words */
        port_write PIC_DATA, VECTOR_BASE
        port_write PIC_DATA, 0x04               /* the second controller is at line 2 */
        port_write PIC_DATA, 0x03               /* 8086 mode, automatic end of interrupt */
        port_write PIC_DATA, 0xfe               /* only line 0, the timer */
        .word   0

text_start:
        .asciz  "\ndirtier v1 start="           /* a reboot may have cut a line in two */
        .asciz  " length="
        .asciz  " seed="
        .asciz  "\n"
text_report:
        .asciz  "c="
        .asciz  " p="
        .asciz  "\n"
digits:
        .ascii  "0123456789abcdef"

/* Flat 4 GiB segments. They are marked as accessed: the CPU can't do that in read-only memory. */
        .balign 8, 0
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff              /* 0x08: code */
        .quad   0x00cf93000000ffff              /* 0x10: data */
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .long   gdt

/* Only the controller's eight vectors exist; an exception would end in a reset. */
        .balign 8, 0
idt_gates:
        .rept   8
        .word   interrupt - _start              /* low half of the handler's address */
        .word   0x08
        .word   0x8e00                          /* 32-bit interrupt gate */
        .word   0xffff                          /* high half */
        .endr
idt_end:
idt_pointer:
        .word   8 * VECTOR_BASE + idt_end - idt_gates - 1
        .long   idt_gates - 8 * VECTOR_BASE

/* Filled in by image.py, which knows this order. */
        .balign 4, 0
        .ascii  "DIRTIER1"
parameter_start:
        .long   0x00100000                      /* address of the first page */
parameter_pages:
        .long   0x00001000
parameter_seed:
        .long   0                               /* only printed */
parameter_first_value:
        .long   1                               /* of the first page; odd */
parameter_pages_per_tick:
        .long   0                               /* in 2^-32 pages; 0: at full speed */
parameter_report_ticks:
        .long   11932                           /* 10 ms */
