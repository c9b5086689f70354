//! Any bytes in any cutting are as valid as the standard library finds the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quelea_core::utf8::{self, Stream};

fuzz_target!(|chunks: Vec<&[u8]>| {
    let whole = chunks.concat();
    let expected = std::str::from_utf8(&whole);
    assert_eq!(utf8::validate(&whole).ok(), expected.ok());
    let (mut stream, mut text) = (Stream::default(), String::new());
    let pushed = chunks.iter().try_for_each(|chunk| stream.push(chunk, &mut text));
    let is_hopeless = expected.is_err_and(|error| error.error_len().is_some());
    assert_eq!(pushed.is_err(), is_hopeless);
    if pushed.is_ok() {
        assert_eq!(stream.finish().is_ok(), expected.is_ok());
        assert!(whole.starts_with(text.as_bytes()));
    }
});
