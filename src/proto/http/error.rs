//! Why a request is refused: the status, the stable code and the text of its problem document.

/// Why a head is refused. Behind it the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    BadRequest(&'static str),
    TooLarge,
    NotImplemented(&'static str),
    ExpectationFailed,
    VersionNotSupported,
}

impl HeadError {
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::TooLarge => 431,
            Self::NotImplemented(_) => 501,
            Self::ExpectationFailed => 417,
            Self::VersionNotSupported => 505,
        }
    }

    /// The stable `code` of the problem document.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::TooLarge => "header_too_large",
            Self::NotImplemented(_) => "not_implemented",
            Self::ExpectationFailed => "expectation_failed",
            Self::VersionNotSupported => "version_not_supported",
        }
    }

    pub fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(detail) | Self::NotImplemented(detail) => detail,
            Self::TooLarge => "the head is too long or has too many fields",
            Self::ExpectationFailed => "the only expectation known is 100-continue",
            Self::VersionNotSupported => "HTTP/1.1 and HTTP/1.0 are spoken here",
        }
    }
}

/// Why a body is refused. Behind it the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    BadRequest(&'static str),
    TooLarge,
}

impl BodyError {
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::TooLarge => 413,
        }
    }

    /// The stable `code` of the problem document.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::TooLarge => "too_large",
        }
    }

    pub fn detail(self) -> &'static str {
        match self {
            Self::BadRequest(detail) => detail,
            Self::TooLarge => "the body is too long",
        }
    }
}
