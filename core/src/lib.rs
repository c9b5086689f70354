//! Sans-IO WebSocket.
//!
//! The protocols of Quelea without a socket, a clock or a thread: bytes come in by `&mut [u8]`,
//! bytes go out into a buffer the caller gives.
#![deny(missing_docs, unsafe_code)]

pub mod handshake;
pub mod http;
#[allow(unsafe_code)] // SIMD intrinsics: the only unsafe code of this crate.
pub mod mask;
pub mod utf8;
