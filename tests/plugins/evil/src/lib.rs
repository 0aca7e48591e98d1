//! Evil.
