//! The ClientHello parser never panics, and once it has answered, following bytes change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::peek::client_hello::{Parse, parse};

fuzz_target!(|bytes: &[u8]| {
    let answer = parse(bytes);
    let half = parse(&bytes[..bytes.len() / 2]);
    assert!(half == Parse::Incomplete || half == answer);
});
