#!/bin/sh
# ready_fd.sh FILE COMMAND...: runs a command with descriptor 7 writing to FILE.
file=$1
shift
exec "$@" 7>"$file"
