//! The command line: parse, one call a command, exit codes.
