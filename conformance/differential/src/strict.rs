//! What the bytes of a connection mean by RFC 9112, read strictly: what may be read in two ways is an error.

use std::fmt;

/// A request, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Names in lower case, in their order.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Whether the connection may carry another one.
    pub persistent: bool,
}

impl Request {
    /// A GET without fields.
    pub fn get(path: &str) -> Self {
        Request {
            method: "GET".into(),
            target: path.into(),
            fields: Vec::new(),
            body: Vec::new(),
            persistent: true,
        }
    }
}

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More bytes are to come.
    Incomplete,
    /// No bytes that may come would make it one.
    Malformed(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Incomplete => f.write_str("incomplete"),
            Fault::Malformed(why) => f.write_str(why),
        }
    }
}

type Parsed<T> = Result<T, Fault>;

fn bad<T>(why: &'static str) -> Parsed<T> {
    Err(Fault::Malformed(why))
}

/// Reads all requests at the beginning of `bytes`, and why there is no further one; `None` at the end of the bytes.
pub fn requests(mut bytes: &[u8]) -> (Vec<Request>, Option<Fault>) {
    let mut all = Vec::new();
    loop {
        // RFC 9112 section 2.2: empty lines before a request line are passed over.
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        if bytes.is_empty() {
            return (all, None);
        }
        match request(bytes) {
            Ok((request, used)) => {
                let ends = !request.persistent;
                all.push(request);
                if ends {
                    return (all, None);
                }
                bytes = &bytes[used..];
            }
            Err(fault) => return (all, Some(fault)),
        }
    }
}

/// Reads one request, and tells how many bytes it has.
pub fn request(bytes: &[u8]) -> Parsed<(Request, usize)> {
    let (line, mut at) = line(bytes, 0)?;
    let (method, target, minor) = request_line(line)?;
    let mut fields = Vec::new();
    loop {
        let (line, next) = self::line(bytes, at)?;
        at = next;
        if line.is_empty() {
            break;
        }
        fields.push(field(line)?);
    }
    check_host(&fields, minor)?;
    let length = framing(&fields, minor)?;
    let (body, end) = match length {
        Length::Known(n) => {
            let end = at
                .checked_add(n)
                .ok_or(Fault::Malformed("a length that overflows"))?;
            let body = bytes.get(at..end).ok_or(Fault::Incomplete)?;
            (body.to_vec(), end)
        }
        Length::Chunked => chunks(bytes, at)?,
    };
    let closes = options(&fields).any(|option| option.eq_ignore_ascii_case("close"));
    let keeps = options(&fields).any(|option| option.eq_ignore_ascii_case("keep-alive"));
    let request = Request {
        method,
        target,
        fields,
        body,
        persistent: !closes && (minor == 1 || keeps),
    };
    Ok((request, end))
}

/// A line without its end, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Parsed<(&[u8], usize)> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|b| *b == b'\n') else {
        return Err(Fault::Incomplete);
    };
    let Some(line) = rest[..end].strip_suffix(b"\r") else {
        return bad("a line that ends in LF alone");
    };
    if line.contains(&b'\r') {
        return bad("a bare CR");
    }
    Ok((line, at + end + 1))
}

fn is_token(bytes: &[u8]) -> bool {
    let of_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(of_token)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn request_line(line: &[u8]) -> Parsed<(String, String, u8)> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return bad("a request line that has not three parts");
    };
    if !is_token(method) {
        return bad("a method that is no token");
    }
    // Bytes above 127 should be encoded, and are often not.
    let of_target = |b: &u8| b.is_ascii_graphic() || *b >= 0x80;
    if target.is_empty() || !target.iter().all(of_target) {
        return bad("a target with bytes that none has");
    }
    let minor = match version {
        b"HTTP/1.0" => 0,
        // RFC 9110 section 2.5: a higher minor version is read as the highest that is known.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => 1,
        _ => return bad("a version that is none of HTTP/1"),
    };
    Ok((text(method), text(target), minor))
}

fn field(line: &[u8]) -> Parsed<(String, Vec<u8>)> {
    let Some(colon) = line.iter().position(|b| *b == b':') else {
        return bad("a field line without a colon");
    };
    let name = &line[..colon];
    if !is_token(name) {
        return bad("a field name that is no token");
    }
    let value = line[colon + 1..].trim_ascii();
    if value
        .iter()
        .any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f)
    {
        return bad("a control character in a field value");
    }
    Ok((text(name).to_ascii_lowercase(), value.to_vec()))
}

fn values<'a>(
    fields: &'a [(String, Vec<u8>)],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> + 'a {
    let named = fields.iter().filter(move |field| field.0 == name);
    named.map(|field| &field.1[..])
}

fn options(fields: &[(String, Vec<u8>)]) -> impl Iterator<Item = String> + '_ {
    values(fields, "connection").flat_map(|value| {
        let members = value.split(|b| *b == b',');
        members
            .map(|member| text(member.trim_ascii()))
            .collect::<Vec<_>>()
    })
}

/// RFC 9112 section 3.2: one Host with HTTP/1.1.
fn check_host(fields: &[(String, Vec<u8>)], minor: u8) -> Parsed<()> {
    let hosts: Vec<_> = values(fields, "host").collect();
    match hosts[..] {
        [] if minor == 0 => Ok(()),
        [] => bad("no Host"),
        [host] => {
            let authority =
                |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b);
            // Empty where the target has no authority (section 3.2).
            match host.iter().all(authority) {
                true => Ok(()),
                false => bad("a Host that is none"),
            }
        }
        _ => bad("several Hosts"),
    }
}

enum Length {
    Known(usize),
    Chunked,
}

/// RFC 9112 section 6.
fn framing(fields: &[(String, Vec<u8>)], minor: u8) -> Parsed<Length> {
    let codings: Vec<_> = values(fields, "transfer-encoding").collect();
    let lengths: Vec<_> = values(fields, "content-length").collect();
    if !codings.is_empty() {
        if minor == 0 || !lengths.is_empty() {
            return bad("a transfer coding beside a length, or in HTTP/1.0");
        }
        return match codings[..] {
            [coding] if coding.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunked),
            _ => bad("a transfer coding that is not chunked alone"),
        };
    }
    let mut known = None;
    for member in lengths.iter().flat_map(|value| value.split(|b| *b == b',')) {
        let digits = member.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return bad("a length that is no number");
        }
        let Ok(length) = text(digits).parse::<usize>() else {
            return bad("a length that overflows");
        };
        if known.is_some_and(|known| known != length) {
            return bad("two lengths");
        }
        known = Some(length);
    }
    Ok(Length::Known(known.unwrap_or(0)))
}

/// RFC 9112 section 7.1.
fn chunks(bytes: &[u8], mut at: usize) -> Parsed<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let (line, next) = self::line(bytes, at)?;
        at = next;
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if digits == 0 || digits > 15 {
            return bad("a chunk without a size");
        }
        let size = usize::from_str_radix(&text(&line[..digits]), 16);
        let size = size.map_err(|_| Fault::Malformed("a chunk without a size"))?;
        let rest = &line[digits..];
        let extension = rest.trim_ascii_start();
        if !rest.is_empty() && !extension.starts_with(b";") {
            return bad("more than extensions after the size of a chunk");
        }
        if extension
            .iter()
            .any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f)
        {
            return bad("a control character in an extension of a chunk");
        }
        if size == 0 {
            break;
        }
        let end = at
            .checked_add(size)
            .ok_or(Fault::Malformed("a size that overflows"))?;
        body.extend_from_slice(bytes.get(at..end).ok_or(Fault::Incomplete)?);
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => at = end + 2,
            Some(_) => return bad("a chunk that is longer than its size"),
            None => return Err(Fault::Incomplete),
        }
    }
    loop {
        let (line, next) = self::line(bytes, at)?;
        at = next;
        if line.is_empty() {
            return Ok((body, at));
        }
        field(line)?;
    }
}
