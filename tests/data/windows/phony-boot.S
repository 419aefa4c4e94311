# The boot record of a phony installed disk: reports as the script of the first logon does, and switches off.
# MODE: 0 whole; 1 stands there; 2 starts again, for ever; 3 goes off without a word; 4 reports a fault.
        .code16
        .globl  _start
_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7c00, %sp
.if MODE == 1
stand:  hlt
        jmp     stand
.endif
.if MODE == 2
        movb    $0xfe, %al
        outb    %al, $0x64
stand:  hlt
        jmp     stand
.endif
.if MODE != 3
        movw    $2, %cx
twice:  movw    $report, %si
print:  lodsb
        cmpb    $0xff, %al
        jne     1f
        movb    edition, %al
1:      testb   %al, %al
        jz      2f
        movw    $0x3f8, %dx
        outb    %al, %dx
        jmp     print
2:      loop    twice
.endif
        movw    $0x604, %dx
        movw    $0x2000, %ax
        outw    %ax, %dx
        hlt
.if MODE == 4
report: .asciz  "virtproof: failed at driver viostor: status 2 .\r\n"
.else
report: .ascii  "virtproof: prepared agent=yes winrm=yes name=evil setup="
        .byte   0xff
        .asciz  " .\r\n"
.endif
        .org    443             # written by phony-setup.S
edition:
        .byte   '?'
        .org    446
