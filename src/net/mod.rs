//! Sockets, file tables and rings.
