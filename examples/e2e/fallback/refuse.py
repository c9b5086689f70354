"""Starts a program for which the kernel refuses io_uring, as containers do: refuse.py ERRNO SYSCALL PROGRAM [ARGUMENT...]

SYSCALL is a number, or `none`; ERRNO is what it fails with. Seccomp does it, by a filter of four instructions.
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def refuse(number, error):
    instructions = [
        (LOAD_WORD, 0, 0, 0),
        (JUMP_EQUAL, 0, 1, number),
        (RETURN, 0, 0, ERRNO | error),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    program = Filter(len(instructions), code)
    # prctl takes words, of which ctypes would make ints.
    words = ctypes.c_ulong
    for arguments in [
        (PR_SET_NO_NEW_PRIVS, words(1), words(0), words(0), words(0)),
        (PR_SET_SECCOMP, words(SECCOMP_MODE_FILTER), ctypes.byref(program), words(0), words(0)),
    ]:
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def main():
    error, number, *command = sys.argv[1:]
    if number != "none":
        refuse(int(number), int(error))
    os.execv(command[0], command)


main()
