"""without_io_uring.py ERRNO COMMAND...: runs a command for which io_uring_setup(2) fails with ERRNO, as a container's
seccomp profile would have it."""

import ctypes
import os
import struct
import sys

SYS_IO_URING_SETUP = 425
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack("HBBI", code, if_true, if_false, value)


errno = int(sys.argv[1])
program = ctypes.create_string_buffer(
    instruction(LOAD_WORD, 0)  # the system call's number
    + instruction(JUMP_IF_EQUAL, SYS_IO_URING_SETUP, 0, 1)
    + instruction(RETURN, FAIL_WITH | errno)
    + instruction(RETURN, ALLOW)
)
sock_fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, sock_fprog):
    sys.exit(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])
