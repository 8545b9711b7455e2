//! The manual page mxgate(1).
