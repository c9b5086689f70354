//! Streaming UTF-8 validation (RFC 6455, section 8.1).
/// The bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidUtf8;
/// Checks a whole text.
///
/// # Errors
/// The bytes are not UTF-8.
pub fn validate(bytes: &[u8]) -> Result<&str, InvalidUtf8> {
    std::str::from_utf8(bytes).map_err(|_| InvalidUtf8)
}
/// Validates a text that comes in chunks, cut anywhere.
#[derive(Debug, Default, Clone)]
pub struct Stream {
    carry: [u8; 4],
    len: u8,
}
impl Stream {
    /// Appends a chunk to `text`, less an incomplete character at its end.
    ///
    /// # Errors
    /// A byte that no continuation can make valid.
    pub fn push(&mut self, chunk: &[u8], text: &mut String) -> Result<(), InvalidUtf8> {
        for &b in chunk {
            self.carry[self.len as usize] = b;
            self.len += 1;
            match std::str::from_utf8(&self.carry[..self.len as usize]) {
                Ok(s) => {
                    text.push_str(s);
                    self.len = 0;
                }
                Err(e) if e.error_len().is_none() => {}
                Err(_) => return Err(InvalidUtf8),
            }
        }
        Ok(())
    }
    /// Ends the text.
    ///
    /// # Errors
    /// The last character is incomplete.
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        if self.len > 0 { Err(InvalidUtf8) } else { Ok(()) }
    }
}
