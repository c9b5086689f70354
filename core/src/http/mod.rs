//! HTTP/1.1 message heads (RFC 9112), as far as a WebSocket endpoint needs them: found as they
//! arrive, parsed where they lie, and answered.

mod authority;
mod error;
mod fields;
mod request;
mod response;
mod scan;
mod status;

pub(crate) use authority::{is_scheme, split_port};
pub use error::HeadError;
pub use fields::{FieldError, Fields};
pub(crate) use fields::{check_field, is_token, list};
pub use request::{Body, Request};
pub(crate) use response::write_field;
pub use response::{Response, ResponseOptions, write_response};
pub use scan::{HeadLimits, HeadScanner};
pub use status::Status;
