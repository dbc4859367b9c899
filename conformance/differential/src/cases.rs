//! The bytes of the table. A request named `next` on the same connection follows each: it tells where a proxy took the end of
//! the case to be.

/// One row.
pub struct Case {
    pub name: &'static str,
    pub bytes: &'static [u8],
    /// Why the proxies differ in what they send upstream.
    pub why: Option<&'static str>,
}

macro_rules! cases {
    ($($name:literal: $bytes:literal $(, $why:literal)?;)*) => {
        &[$(Case { name: $name, bytes: $bytes as &[u8], why: cases!(@why $($why)?) },)*]
    };
    (@why) => { None };
    (@why $why:literal) => { Some($why) };
}

pub const CASES: &[Case] = cases! {
    "a plain request": b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    "an empty line before it": b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    "lines that end in LF": b"GET /a HTTP/1.1\nHost: x\n\n",
        "RFC 9112 section 2.2 lets a recipient take LF alone; two readers that differ in it disagree where a head ends.";
    "one field line that ends in LF": b"GET /a HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
        "As above.";
    "a bare CR in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\rc\r\n\r\n";
    "NUL in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\0c\r\n\r\n",
        "RFC 9110 section 5.5: NUL is refused or replaced.";
    "a control character in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\x01c\r\n\r\n",
        "RFC 9110 section 5.5: a value has none, and an origin may refuse or cut it.";
    "a byte above 127 in a value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\xe4c\r\n\r\n";
    "a folded value": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
        "RFC 9112 section 5.2: a server refuses it, or joins the lines. HAProxy joins them.";
    "white space before the first field": b"GET /a HTTP/1.1\r\n X-A: b\r\nHost: x\r\n\r\n";
    "white space before a colon": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n";
    "a field line without a colon": b"GET /a HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n",
        "RFC 9112 section 5: it is no field line. nginx drops it.";
    "an empty field name": b"GET /a HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n";
    "a field name with a space": b"GET /a HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n";
    "a field name with a slash": b"GET /a HTTP/1.1\r\nHost: x\r\nX/A: b\r\n\r\n",
        "RFC 9110 section 5.1: a name is a token. nginx drops the field.";
    "a field name with an underscore": b"GET /a HTTP/1.1\r\nHost: x\r\nX_A: b\r\n\r\n";
    "two spaces in the request line": b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "RFC 9112 section 3: a lenient reader may take other white space; one that is not sees another target.";
    "a tab in the request line": b"GET\t/a HTTP/1.1\r\nHost: x\r\n\r\n",
        "As above.";
    "white space after the version": b"GET /a HTTP/1.1 \r\nHost: x\r\n\r\n",
        "As above.";
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n";
    "a method in lower case": b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "RFC 9110 section 9.1: methods have letter case, and any token is one.";
    "a method with a slash": b"G/T /a HTTP/1.1\r\nHost: x\r\n\r\n";
    "a method that nobody knows": b"BREW /a HTTP/1.1\r\nHost: x\r\n\r\n";
    "HTTP/1.2": b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n";
    "HTTP/2.0 in a request line": b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
        "RFC 9110 section 15.6.6: a major version that is not spoken here.";
    "HTTP/1.1 with leading zeros": b"GET /a HTTP/01.1\r\nHost: x\r\n\r\n";
    "http in lower case": b"GET /a http/1.1\r\nHost: x\r\n\r\n";
    "HTTP/0.9": b"GET /a\r\n",
        "It has had no place in HTTP since RFC 9112.";
    "HTTP/1.0 without Host": b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "RFC 9112 section 3.2: an empty Host goes upstream where the target has no authority.";
    "no Host": b"GET /a HTTP/1.1\r\n\r\n",
        "RFC 9112 section 3.2: 400.";
    "two Hosts that agree": b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "RFC 9112 section 3.2: more than one is 400, whatever they say.";
    "two Hosts that differ": b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n";
    "an empty Host": b"GET /a HTTP/1.1\r\nHost:\r\n\r\n",
        "A request in origin form that names no host asks for nothing that a proxy could choose by.";
    "Host with a path": b"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n",
        "RFC 9112 section 3.2: a value that is none is 400.";
    "Host with user information": b"GET /a HTTP/1.1\r\nHost: u@x\r\n\r\n",
        "As above.";
    "Host with a space": b"GET /a HTTP/1.1\r\nHost: x y\r\n\r\n",
        "As above.";
    "Host with a comma": b"GET /a HTTP/1.1\r\nHost: x,y\r\n\r\n",
        "No name has one.";
    "Host with a port that is none": b"GET /a HTTP/1.1\r\nHost: x:99999\r\n\r\n",
        "As above: a port has 16 bits.";
    "a target in absolute form": b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n",
        "RFC 9112 section 3.2.2 has a proxy make Host of it; origins see one form only.";
    "an absolute target beside another Host": b"GET http://x/a HTTP/1.1\r\nHost: y\r\n\r\n",
        "RFC 9112 section 3.2.2: the target counts, and Host is replaced by it.";
    "an absolute target with user information": b"GET http://u@x/a HTTP/1.1\r\nHost: x\r\n\r\n",
        "RFC 9110 section 4.2.4: it is treated as an error.";
    "a target with a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
        "RFC 9112 section 3.2: no form of a target has one.";
    "a target that begins with no slash": b"GET a HTTP/1.1\r\nHost: x\r\n\r\n";
    "a target with a byte above 127": b"GET /\xe4 HTTP/1.1\r\nHost: x\r\n\r\n",
        "It belongs percent-encoded, and many clients send it as it is; it goes upstream encoded.";
    "a target with a control character": b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n";
    "a target with a broken percent code": b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        "Paths have one form, by which routes and rules are chosen; what has none is refused.";
    "a target with an encoded NUL": b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        "As above.";
    "an asterisk with GET": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "RFC 9112 section 3.2.4: only OPTIONS has it.";
    "an asterisk with OPTIONS": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "It names no path by which a route could be chosen.";
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
        "A tunnel is opened only where the operator allows it.";
    "TRACE": b"TRACE /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "Max-Forwards is counted, and nothing else is in the way of it (RFC 9110 section 9.3.8).";
    "a body by Content-Length": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    "a body with GET": b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    "two lengths that agree": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "RFC 9112 section 6.3: they may be made one, which goes upstream.";
    "two lengths in one field": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc",
        "As above.";
    "two lengths that differ": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nabc";
    "a length with a sign": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc";
    "a negative length": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc";
    "a length with a zero in front": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 03\r\n\r\nabc";
    "a length in hexadecimal": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc";
    "an empty length": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n";
    "a length that overflows": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
        "RFC 9110 section 8.6: it is no number that can be counted with.";
    "a length with a space in it": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3 3\r\n\r\nabc";
    "a body in chunks": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "chunked in capitals": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "chunks beside a length": b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "RFC 9112 section 6.1: either a server refuses it, or it closes after it. HAProxy closes.";
    "chunks in HTTP/1.0": b"POST /a HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "RFC 9112 section 6.1: the framing is faulty.";
    "chunked twice": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "chunked in two fields": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "identity before chunked": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "gzip before chunked": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "chunked before gzip": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "identity alone": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n";
    "an unknown coding": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "an empty coding": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n";
    "chunked behind a vertical tab": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "chunked with a comma behind it": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked,\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "An empty member is none of the codings; readers differ in what it stands for.";
    "chunked with a parameter": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;a=b\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    "an extension of a chunk": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n";
    "an extension that ends in LF": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n",
        "RFC 9112 section 7.1.1 and 2.2: as with lines of a head.";
    "a bare CR in an extension": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n";
    "a chunk's size with zeros in front": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n003\r\nabc\r\n0\r\n\r\n";
    "a chunk's size with 0x": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n";
    "a chunk's size with a sign": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n";
    "a chunk's size that overflows": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n";
    "a space after a chunk's size": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
        "RFC 9112 section 7.1.1 has white space only before an extension.";
    "a space before a chunk's size": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n";
    "an empty chunk's size": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\n";
    "a chunk's size that ends in LF": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        "As with lines of a head.";
    "a chunk that ends in LF": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
        "As with lines of a head.";
    "a chunk that is longer than its size": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n";
    "a last chunk of two zeros": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00\r\n\r\n";
    "trailers": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n\r\n";
    "a trailer that frames": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n";
    "a trailer that is no field": b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX A\r\n\r\n",
        "RFC 9112 section 7.1.2: trailers are field lines. nginx drops them unread.";
    "Connection that names Host": b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Host\r\n\r\n",
        "RFC 9110 section 7.6.1: a field that is for all recipients is none of the connection's, and to drop it would change the request.";
    "Connection that names Content-Length": b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\nabc",
        "As above.";
    "Connection: close": b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    "Expect: 100-continue": b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc";
    "another expectation": b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 3\r\n\r\nabc";
    "an upgrade that the origin passes over": b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "The handshake lacks its key. RFC 9110 section 7.8 lets a server pass an upgrade over, and so does the origin.";
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    "the handshake of TLS": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
};

/// The request that follows each case on its connection.
pub const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
