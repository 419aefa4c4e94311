# What boots from a phony installation medium (El Torito, no emulation): it reads the edition's index from the
# answer medium, copies a made disk onto the first one, and starts again; that disk's own boot record (phony-boot.S) goes on.
# MODE: 0 whole; 1 ends at once, the disk empty; 2 stands there, as a dialog would.
        .code16
        .globl  _start
_start: jmp     begin
        .org    8               # xorriso's boot information table
        .long   0
own:    .long   0               # this file's block on the medium
        .org    64

begin:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        sti
        movb    %dl, drive
        movw    $hello, %si
        call    print
.if MODE == 1
        jmp     off
.endif
.if MODE == 2
stand:  hlt
        jmp     stand
.endif
        call    answers
        movw    $number, %si
        call    print

        # Extents: block of this file (long), sector of the disk (long), blocks of 2048 bytes (word); none ends.
        movw    $table, %bp
next:   movw    8(%bp), %cx
        testw   %cx, %cx
        jz      again
        movl    (%bp), %eax
        addl    own, %eax
        movl    %eax, from
        movl    4(%bp), %eax
        movl    %eax, to
        movw    %cx, left
piece:  movw    left, %cx
        testw   %cx, %cx
        jz      done
        cmpw    $16, %cx
        jbe     1f
        movw    $16, %cx
1:      movw    %cx, reading
        movw    $packet_r, %si
        movb    drive, %dl
        movb    $0x42, %ah
        int     $0x13
        jc      failed
        cmpl    $0, to
        jne     2f
        # The boot record is told the edition, and tells it to the harness.
        movw    $0x2000, %ax
        movw    %ax, %es
        movb    digit, %al
        movb    %al, %es:510-2-64-1
        xorw    %ax, %ax
        movw    %ax, %es
2:      movw    reading, %ax
        shlw    $2, %ax
        movw    %ax, writing
        movw    $packet_w, %si
        movb    $0x80, %dl
        movw    $0x4300, %ax
        int     $0x13
        jc      failed
        movzwl  reading, %eax
        addl    %eax, from
        subw    %ax, left
        shll    $2, %eax
        addl    %eax, to
        jmp     piece
done:   addw    $10, %bp
        jmp     next

failed: movw    $fault, %si
        call    print
        jmp     off

again:  movb    $0xfe, %al
        outb    %al, $0x64
1:      hlt
        jmp     1b

off:    movw    $0x604, %dx
        movw    $0x2000, %ax
        outw    %ax, %dx
1:      hlt
        jmp     1b

# The digit after the index in the answers, from the second drive of the second IDE channel.
answers:
        movl    $16, block
look:   call    atapi
        jc      none
        movw    $0x3000, %ax
        movw    %ax, %es
        xorw    %di, %di
scan:   movw    $index, %si
        movw    $index_n, %cx
        movw    %di, %bx
        repe    cmpsb
        je      have
        movw    %bx, %di
        incw    %di
        cmpw    $4096-64, %di
        jb      scan
        incl    block
        cmpl    $2000, block
        jb      look
none:   movw    $lost, %si
        call    print
        jmp     off
have:   # behind the key's end, white space and <Value>
        movb    %es:(%di), %al
        incw    %di
        cmpb    $'0', %al
        jb      have
        cmpb    $'9', %al
        ja      have
        movb    %al, digit
        xorw    %ax, %ax
        movw    %ax, %es
        ret

# Two blocks of the answer medium to 0x3000:0; carry where there are none. A first command may be refused (unit
# attention).
atapi:  movw    $8, %bp
try:    movw    $0x376, %dx
        movb    $2, %al
        outb    %al, %dx
        movw    $0x176, %dx
        movb    $0xb0, %al
        outb    %al, %dx
        call    ready
        movw    $0x171, %dx
        xorb    %al, %al
        outb    %al, %dx
        movw    $0x174, %dx
        outb    %al, %dx
        movb    $8, %al
        incw    %dx
        outb    %al, %dx
        movw    $0x177, %dx
        movb    $0xa0, %al
        outb    %al, %dx
        call    ready
        movl    block, %eax
        bswap   %eax
        movl    %eax, command+2
        movw    $command, %si
        movw    $6, %cx
        movw    $0x170, %dx
        rep     outsw
        call    ready
        testb   $1, %al
        jnz     refused
        movw    $0x3000, %ax
        movw    %ax, %es
        xorw    %di, %di
        movw    $2, %cx
half:   pushw   %cx
        call    ready
        movw    $1024, %cx
        movw    $0x170, %dx
        rep     insw
        popw    %cx
        loop    half
        call    ready
        xorw    %ax, %ax
        movw    %ax, %es
        clc
        ret
refused:
        decw    %bp
        jnz     try
        stc
        ret

ready:  movw    $0x177, %dx
        inb     %dx, %al
        inb     %dx, %al
        inb     %dx, %al
1:      inb     %dx, %al
        testb   $0x80, %al
        jnz     1b
        ret

print:  lodsb
        testb   %al, %al
        jz      2f
        movw    $0x3f8, %dx
        outb    %al, %dx
        jmp     print
2:      ret

drive:  .byte   0
left:   .word   0
block:  .long   0
command:
        .byte   0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0
packet_r:
        .byte   16, 0
reading:
        .word   0, 0, 0x2000
from:   .long   0, 0
packet_w:
        .byte   16, 0
writing:
        .word   0, 0, 0x2000
to:     .long   0, 0
index:  .ascii  "/IMAGE/INDEX</Key>"
        .set    index_n, . - index
hello:  .asciz  "phony setup\r\n"
number: .ascii  "phony setup: edition "
digit:  .asciz  "?\r\n"
fault:  .asciz  "phony setup: the disk cannot be written\r\n"
lost:   .asciz  "phony setup: no answers on the second drive\r\n"

        .org    2048
table:
