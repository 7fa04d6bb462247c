//! Messages between the pipeline and a guest: heads copied in, edits copied out, bodies gathered.

use bytes::Bytes;

use super::abi::{Action, Half};
use super::fields::{FieldMap, Of, is_guests};
use super::instance::Fault;
use super::seat::Visit;
use super::stream::{LocalResponse, Stage, Stream, Wish};
use crate::handler::Request;
use crate::http::{Fields, Status, Version};
use crate::plugin::{AnswerBody, BodyPlan, LocalAnswer, PostHandler, PreHandler};

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
pub(super) fn take_over(visit: &Visit, hook: &mut PreHandler<'_, '_>) -> Result<(), Fault> {
    visit.stream(|stream| {
        let message = &mut stream.request;
        message.stage = Stage::Sent;
        if message.headers.touched().next().is_some() {
            // What it has told the origin may be who the client is.
            hook.note_credential();
        }
        for name in message.headers.touched() {
            let Ok(text) = str::from_utf8(name) else { continue };
            if name == b":path" {
                let target = message.headers.get(name).and_then(|target| str::from_utf8(target).ok());
                hook.set_target(target.unwrap_or("/"));
                continue;
            }
            if !is_guests(name) || hook.remove_header(text).is_err() {
                continue;
            }
            for value in message.headers.values(name) {
                // It was checked when the guest passed it; what finds no room any more is left out.
                let _ = hook.add_header(text, value);
            }
        }
        message.headers.settle();
    })
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
    let mut fields = Fields::new();
    for (name, value) in answer.fields.iter().filter(|(name, _)| is_guests(name)) {
        // Names and values were checked when the guest passed them; what finds no room is left out.
        let _ = fields.push(name, value);
    }
    LocalAnswer { status, fields, body: AnswerBody::Bytes(Bytes::from(answer.body)) }
}

/// Shows the head of a response, and has it changed as the guest edited it. Its fields are copied for a guest that
/// `reads_fields`. `plan` is what becomes of the body where the
/// guest goes on.
pub(super) fn show_response(
    visit: &Visit,
    hook: &mut PostHandler<'_, '_>,
    reads_fields: bool,
    plan: BodyPlan,
) -> Result<BodyPlan, Fault> {
    let end = hook.is_head_only() || hook.length() == Some(0);
    let status = hook.status();
    visit.stream(|stream| {
        let response = &mut stream.response;
        response.stage = Stage::Open;
        if !reads_fields {
            response.uncopied = hook.fields().iter().count() + 1;
            return;
        }
        response.headers.reset(Of::Response);
        response.headers.load(b":status", &status.digits());
        for (name, value) in hook.fields().iter() {
            response.headers.load(name.as_bytes(), value);
        }
    })?;
    let action = visit.with(|instance, id| instance.headers(Half::Response, id, end))?;
    let (wish, resumed) = visit.stream(|stream| {
        stream.response.stage = Stage::Sent;
        stream.is_answered = true;
        (std::mem::take(&mut stream.wish), std::mem::take(&mut stream.response.resumed))
    })?;
    if let Some(answer) = decide(wish) {
        hook.set_status(answer.status);
        *hook.fields() = answer.fields;
        return Ok(BodyPlan::Replaced(match answer.body {
            AnswerBody::Bytes(body) => body,
            // A guest's answer is neither of them, but for the one that ends a request.
            AnswerBody::Problem(_) | AnswerBody::Stored(_) => Bytes::new(),
        }));
    }
    if action == Action::Pause && !resumed {
        return Err(Fault::Paused("it paused the head of a response, which this server sends on at once"));
    }
    visit.stream(|stream| take_over_response(&mut stream.response.headers, hook))?;
    Ok(plan)
}

fn take_over_response(headers: &mut FieldMap, hook: &mut PostHandler<'_, '_>) {
    for name in headers.touched() {
        if name == b":status" {
            let code = headers.get(name).and_then(|code| str::from_utf8(code).ok()?.parse().ok());
            // Interim responses are the server's.
            if let Some(status) = code.filter(|code| *code >= 200).and_then(Status::new) {
                hook.set_status(status);
            }
            continue;
        }
        if !is_guests(name) {
            continue;
        }
        hook.fields().remove(name);
        for value in headers.values(name) {
            // It was checked when the guest passed it; what finds no room any more is left out.
            let _ = hook.fields().push(name, value);
        }
    }
    headers.settle();
}

/// Shows a piece of a response's body. What the guest lets go on is appended to `out`.
pub(super) fn show_response_body(
    visit: &Visit,
    piece: &[u8],
    end: bool,
    body_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    visit.stream(|stream| {
        let body = &mut stream.response.body;
        if !body.is_empty() && body.len() + piece.len() > body_max {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(piece);
        Ok(())
    })??;
    let action = visit.with(|instance, id| instance.response_body(id, end))?;
    visit.stream(|stream| {
        if !matches!(std::mem::take(&mut stream.wish), Wish::None) {
            // The head is out: the response can only be cut.
            return Err(Fault::Closed);
        }
        let resumed = std::mem::take(&mut stream.response.resumed);
        match action {
            Action::Pause if !resumed && end => {
                Err(Fault::Paused("it paused the end of a response, which this server sends on at once"))
            }
            Action::Pause if !resumed => Ok(()),
            Action::Pause | Action::Continue => {
                out.append(&mut stream.response.body);
                Ok(())
            }
        }
    })?
}
