//! Fixed responses, with the route's parameters in them if the operator likes.
//!
//! What does not depend on the request is laid out when the route is built: answering is then two copies, no allocation.

use std::fmt;

use super::template::{self, Escape, Template, UnknownParam};
use super::{Answer, BodyLength, Exchange, Handler, Pace, Prepared, Reply};
use crate::http::{FieldError, Fields, Status, StatusClass};
use crate::limits::COPY_BYTES_MAX;
use crate::pool::{self, Class};

/// What a fixed response consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RespondSpec {
    /// The status: 200 to 999.
    pub status: Status,
    /// Names and values, in order; a name may come twice. In values `{name}` is a parameter of the route, as it stands
    /// in the normalised path (ASCII, percent-encoded).
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: RespondBody,
}

/// The body of a fixed response.
///
/// Each kind has a `Content-Type` of its own that a field of that name replaces. Parameters are inserted
/// percent-decoded where that gives UTF-8 without control characters, else as they stand; and escaped as the media type
/// asks: in JSON as the inside of a string, in HTML and XML so that no markup comes of them. Other types are taken for plain
/// text, in which nothing needs an escape: keep parameters out of scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RespondBody {
    /// None, and no `Content-Type`.
    Empty,
    /// `text/plain; charset=utf-8`. `{name}` is a parameter of the route, and an error when the route has none of that
    /// name; `{{name}}` is the text `{name}`; every other brace is itself.
    Text(String),
    /// `application/json`, serialised already. `{name}` is a parameter only inside a string value and only when the route
    /// has it; everything else, member names too, stays as it is.
    Json(String),
    /// `application/octet-stream`, sent as it is.
    Bytes(Vec<u8>),
}

/// Why a fixed response cannot be built: the operator is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RespondError {
    /// 1xx: interim responses are the server's.
    Status(Status),
    /// 204, 205 and 304 have no body (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5).
    BodyNotAllowed(Status),
    /// A field is not one, or is the server's to set.
    Field {
        /// The field's name.
        name: String,
        /// What is wrong with it.
        error: FieldError,
    },
    /// A field names a parameter that the route does not have.
    FieldParam {
        /// The field's name.
        name: String,
        /// What it names.
        error: UnknownParam,
    },
    /// The text names a parameter that the route does not have.
    BodyParam(UnknownParam),
}

impl fmt::Display for RespondError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status: expected a final status (200 to 999), found {status}"),
            Self::BodyNotAllowed(status) => write!(f, "expected no body with status {status}, found one"),
            Self::Field { name, error } => write!(f, "field {name:?}: {error}"),
            Self::FieldParam { name, error } => write!(f, "field {name:?}: {error}"),
            Self::BodyParam(error) => write!(f, "body: {error}"),
        }
    }
}

impl std::error::Error for RespondError {}

/// Answers every request with one response.
#[derive(Debug)]
pub struct Respond {
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    /// Short, and always the same.
    Prepared(Prepared),
    /// Always the same, and too long to copy: sent from where it lies.
    Long { status: Status, fields: Fields, body: Vec<u8> },
    /// With parameters.
    Rendered(Rendered),
}

#[derive(Debug)]
struct Rendered {
    status: Status,
    /// The body's own, where no field sets another. Not one of `fields`: of a hundred thousand routes most have no other.
    media_type: Option<&'static str>,
    fields: Vec<(String, Template)>,
    body: Template,
    escape: Escape,
    pace: Pace,
}

impl Respond {
    /// Builds the response; `params` are the names of the route's parameters.
    ///
    /// # Errors
    /// The first mistake: status, then fields in order, then body.
    pub fn new(spec: RespondSpec, params: &[&str]) -> Result<Self, RespondError> {
        let RespondSpec { status, fields, body } = spec;
        if status.class() == StatusClass::Informational {
            return Err(RespondError::Status(status));
        }
        if !body.is_empty() && (status.is_bodiless() || status == Status::RESET_CONTENT) {
            return Err(RespondError::BodyNotAllowed(status));
        }
        let named = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let media_type = named.map(|(_, value)| value.clone());
        let own_type = if media_type.is_none() { body.media_type() } else { None };
        let mut lines = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            // The braces of a parameter are good bytes of a value, so this checks all that is the operator's.
            if let Err(error) = Fields::new().push(&name, &value) {
                return Err(RespondError::Field { name, error });
            }
            match Template::text(&value, params) {
                Ok(value) => lines.push((name, value)),
                Err(error) => return Err(RespondError::FieldParam { name, error }),
            }
        }
        let escape = match &body {
            RespondBody::Json(_) => Escape::Json,
            _ => media_type.as_deref().map_or(Escape::Text, Escape::of_media_type),
        };
        let body = body.into_template(params).map_err(RespondError::BodyParam)?;
        Ok(Self { plan: Plan::new(status, own_type, lines, body, escape)? })
    }
}

impl Plan {
    fn new(
        status: Status,
        media_type: Option<&'static str>,
        lines: Vec<(String, Template)>,
        body: Template,
        escape: Escape,
    ) -> Result<Self, RespondError> {
        let length: usize = body.fixed_pieces().map(<[u8]>::len).sum();
        let is_long = length > COPY_BYTES_MAX;
        let is_fixed = lines.iter().all(|(_, value)| value.as_fixed().is_some());
        Ok(match body.as_fixed().filter(|_| is_fixed) {
            Some(body) if is_long => Self::Long { status, fields: lay_out(media_type, &lines)?, body: body.to_vec() },
            Some(body) => Self::Prepared(Prepared::new(status, &lay_out(media_type, &lines)?, body.to_vec())),
            None => {
                if !lines.is_empty() {
                    // Also without the parameters' values, so that the operator's part alone is within the bounds.
                    lay_out(media_type, &lines)?;
                }
                let pace = if is_long { Pace::Suspending } else { Pace::Immediate };
                Self::Rendered(Rendered { status, media_type, fields: lines, body, escape, pace })
            }
        })
    }
}

/// The fields as far as they do not depend on the request.
fn lay_out(media_type: Option<&str>, lines: &[(String, Template)]) -> Result<Fields, RespondError> {
    let mut fields = Fields::new();
    let mut push = |name: &str, value: &[u8]| {
        fields.push(name, value).map_err(|error| RespondError::Field { name: name.to_owned(), error })
    };
    if let Some(own) = media_type {
        push("Content-Type", own.as_bytes())?;
    }
    for (name, value) in lines {
        push(name, &value.fixed_pieces().collect::<Vec<_>>().concat())?;
    }
    Ok(fields)
}

impl RespondBody {
    fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) | Self::Json(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }

    fn media_type(&self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Text(_) => Some("text/plain; charset=utf-8"),
            Self::Json(_) => Some("application/json"),
            Self::Bytes(_) => Some("application/octet-stream"),
        }
    }

    fn into_template(self, params: &[&str]) -> Result<Template, UnknownParam> {
        Ok(match self {
            Self::Empty => Template::default(),
            Self::Text(text) => Template::text(&text, params)?,
            Self::Json(json) => Template::json(&json, params),
            Self::Bytes(bytes) => Template::fixed(bytes),
        })
    }
}

impl Rendered {
    fn lay_fields(&self, exchange: &mut Exchange<'_>) -> Reply {
        let request = exchange.request;
        exchange.response.status(self.status);
        if let Some(own) = self.media_type {
            template::push_field(&mut exchange.response, "Content-Type", own.as_bytes())?;
        }
        let mut value = pool::take(Class::Small);
        for (name, template) in &self.fields {
            value.clear();
            template.render(&request, Escape::AsSent, &mut value);
            template::push_field(&mut exchange.response, name, &value)?;
        }
        Ok(())
    }

    fn send(&self, exchange: &mut Exchange<'_>) -> Reply {
        self.lay_fields(exchange)?;
        let mut body = pool::take(Class::Small);
        self.body.render(&exchange.request, self.escape, &mut body);
        exchange.response.send(&body)
    }

    async fn stream(&self, exchange: &mut Exchange<'_>) -> Reply {
        self.lay_fields(exchange)?;
        let mut body = pool::take(Class::Large);
        self.body.render(&exchange.request, self.escape, &mut body);
        exchange.response.start(BodyLength::Known(body.len() as u64))?;
        exchange.response.write(&body).await
    }
}

async fn send_long(status: Status, fields: &Fields, body: &[u8], exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.status(status).fields().clone_from(fields);
    exchange.response.start(BodyLength::Known(body.len() as u64))?;
    exchange.response.write(body).await
}

impl Handler for Respond {
    fn pace(&self) -> Pace {
        match &self.plan {
            Plan::Prepared(_) => Pace::Immediate,
            Plan::Long { .. } => Pace::Suspending,
            Plan::Rendered(rendered) => rendered.pace,
        }
    }

    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        match &self.plan {
            Plan::Prepared(prepared) => Answer::Now(exchange.response.send_prepared(prepared)),
            Plan::Long { status, fields, body } => Answer::Later(Box::pin(send_long(*status, fields, body, exchange))),
            Plan::Rendered(rendered) => match rendered.pace {
                Pace::Immediate => Answer::Now(rendered.send(exchange)),
                Pace::Suspending => Answer::Later(Box::pin(rendered.stream(exchange))),
            },
        }
    }
}

#[cfg(test)]
mod tests;
