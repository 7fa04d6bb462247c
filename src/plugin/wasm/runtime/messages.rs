//! Requests between the pipeline and a guest: heads copied in, edits copied out, bodies gathered; and the guest's answers.

use bytes::Bytes;

use super::fields::Of;
use super::instance::Fault;
use super::seat::Visit;
use super::stream::{LocalResponse, Stage, Stream, Wish};
use crate::handler::Request;
use crate::http::{Fields, Status, Version};
use crate::plugin::{AnswerBody, LocalAnswer, PreHandler};

/// Counts the fields of a request's head, as [`fill_request`] copies them: for a guest that cannot look at them.
pub(super) fn count_request(stream: &mut Stream, request: &Request<'_>) {
    let fields = request.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("host")).count();
    stream.request.uncopied = PARTS + fields;
}

/// The parts of a request's first line that guests see as fields.
const PARTS: usize = 4;

/// Copies the head of a request in.
pub(super) fn fill_request(stream: &mut Stream, request: &Request<'_>) {
    let headers = &mut stream.request.headers;
    headers.load(b":authority", request.authority().unwrap_or_default().as_bytes());
    if request.target().starts_with('/') {
        headers.load(b":path", request.target().as_bytes());
    } else {
        let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
        headers.load(b":path", format!("{}{query}", request.raw_path()).as_bytes());
    }
    headers.load(b":method", request.method_str().as_bytes());
    headers.load(b":scheme", b"http");
    for (name, value) in request.headers() {
        // HTTP/1.1 has it as a field, the guest as a part of the first line.
        if !name.eq_ignore_ascii_case("host") {
            headers.load(name.as_bytes(), value);
        }
    }
    let facts = &mut stream.facts;
    facts.peer = request.peer();
    facts.protocol = if request.version() == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    facts.id.push_str(request.id().text(&mut [0; 16]));
}

/// Has the request changed as the guest edited it. What is not a plugin's to change (the framing, the host, the method)
/// stays as it is.
///
/// # Errors
/// [`Fault::NoRoom`]; no field is changed then.
pub(super) fn take_over(visit: &Visit, hook: &mut PreHandler<'_, '_>) -> Result<(), Fault> {
    visit.stream(|stream| {
        let message = &mut stream.request;
        message.stage = Stage::Sent;
        if message.headers.touched().next().is_some() {
            // What it has told the origin may be who the client is.
            hook.note_credential();
        }
        let (lines, bytes) = message.headers.size_of_changes();
        if !hook.has_room(lines, bytes) {
            return Err(Fault::NoRoom);
        }
        if message.headers.touched().any(|name| name == b":path") {
            let target = message.headers.get(b":path").and_then(|target| str::from_utf8(target).ok());
            hook.set_target(target.unwrap_or("/"));
        }
        for (name, values) in message.headers.changes() {
            let Ok(name) = str::from_utf8(name) else { continue };
            // `Host` is not a plugin's to change.
            if hook.remove_header(name).is_err() {
                continue;
            }
            for value in values {
                // It was checked when the guest passed it, and has room.
                let _ = hook.add_header(name, value);
            }
        }
        message.headers.settle();
        Ok(())
    })?
}

/// Reads the body of a request whole, so that the guest can answer instead whatever it finds in it, and so that a guest which
/// fails takes none of it along. The body can be read again.
///
/// # Errors
/// The answer for a body that cannot be read, or is longer than `body_max`.
pub(super) async fn gather(hook: &mut PreHandler<'_, '_>, body_max: usize) -> Result<(Bytes, Fields), LocalAnswer> {
    hook.body.keep_trailers();
    let body = hook.body.read_to_end(body_max).await.map_err(|error| {
        let (status, detail) = error.answer().unwrap_or((Status::BAD_REQUEST, "the client has left"));
        LocalAnswer::problem(status, detail)
    })?;
    let trailers = hook.body.trailers().map(|trailers| trailers.forwardable(std::iter::empty()).clone());
    let body = Bytes::from(body);
    hook.body.replace(body.clone());
    Ok((body, trailers.unwrap_or_default()))
}

/// Gives the guest the trailers of a request to look at; whether there are any.
pub(super) fn fill_trailers(stream: &mut Stream, trailers: &Fields) -> bool {
    stream.request.trailers.reset(Of::Other);
    for (name, value) in trailers.iter() {
        stream.request.trailers.load(name.as_bytes(), value);
    }
    !trailers.is_empty()
}

/// What a guest's wish comes to.
pub(super) fn decide(wish: Wish) -> Option<LocalAnswer> {
    match wish {
        Wish::None => None,
        Wish::Answer(answer) => Some(local_answer(*answer)),
        Wish::Close => Some(ended()),
    }
}

/// The answer of a guest that wants the connection closed: it gets one that tells nothing.
fn ended() -> LocalAnswer {
    LocalAnswer::problem(Status::SERVICE_UNAVAILABLE, "the request was ended by a plugin")
}

fn local_answer(answer: LocalResponse) -> LocalAnswer {
    let status = Status::new(answer.status).unwrap_or(Status::INTERNAL_SERVER_ERROR);
    LocalAnswer { status, fields: answer.fields, body: AnswerBody::Bytes(Bytes::from(answer.body)) }
}
