//! Status codes of responses (RFC 9110, section 15; RFC 6585).

/// Declares the codes, each with its phrase.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal $reason:literal;)*) => {
        $($(#[doc = $doc])+ pub const $name: u16 = $code;)*

        /// Returns the phrase of a status line.
        pub const fn reason(status: u16) -> &'static str {
            match status {
                $($code => $reason,)*
                _ => "",
            }
        }
    };
}

codes! {
    /// It is done, or here it is.
    OK = 200 "OK";
    /// Something was added.
    CREATED = 201 "Created";
    /// It will be done: the run goes on meanwhile.
    ACCEPTED = 202 "Accepted";
    /// The request can't be understood, or asks for what can't be.
    BAD_REQUEST = 400 "Bad Request";
    /// The client has not shown the token.
    UNAUTHORIZED = 401 "Unauthorized";
    /// The client is not served, or not this.
    FORBIDDEN = 403 "Forbidden";
    /// There is no such resource.
    NOT_FOUND = 404 "Not Found";
    /// The resource has no such method.
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed";
    /// The resource has no such format.
    NOT_ACCEPTABLE = 406 "Not Acceptable";
    /// The client was too slow.
    REQUEST_TIMEOUT = 408 "Request Timeout";
    /// The lab is in a state in which it can't be done.
    CONFLICT = 409 "Conflict";
    /// The length of the body is missing.
    LENGTH_REQUIRED = 411 "Length Required";
    /// The request is too large.
    CONTENT_TOO_LARGE = 413 "Content Too Large";
    /// The request is for another host.
    MISDIRECTED = 421 "Misdirected Request";
    /// The head of the request is too large.
    HEADERS_TOO_LARGE = 431 "Request Header Fields Too Large";
    /// The system refused it.
    INTERNAL_ERROR = 500 "Internal Server Error";
    /// There are too many connections.
    UNAVAILABLE = 503 "Service Unavailable";
    /// The version is not one of HTTP that is understood.
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported";
}
