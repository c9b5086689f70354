"""Takes from this process, and what it becomes, what the kernel may refuse a service. To be called in a child."""

import ctypes
import resource
import struct

PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 22, 24, 38
SECCOMP_MODE_FILTER = 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
CAPABILITIES = 41


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def prctl(option, first, second=0):
    libc = ctypes.CDLL(None, use_errno=True)
    # It takes words, of which ctypes would make ints.
    word = ctypes.c_ulong
    second = word(second) if isinstance(second, int) else second
    if libc.prctl(option, word(first), second, word(0), word(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {first})")


def refuse_call(number, error):
    """Has one system call fail, by seccomp, as containers do."""
    instructions = [
        (LOAD_WORD, 0, 0, 0),
        (JUMP_EQUAL, 0, 1, number),
        (RETURN, 0, 0, ERRNO | error),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(instructions), code)))


def drop_privileges():
    """Root, too, has no capabilities once it runs a program."""
    for capability in range(CAPABILITIES):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except PermissionError:
            # Who is not root has none.
            return


def lock_no_memory():
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
