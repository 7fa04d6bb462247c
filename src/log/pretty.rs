//! The `pretty` format: the message on one line, each field on a line of its own, without colours.
//!
//! Our own, because `tracing-subscriber`'s needs its `ansi` feature, and with it a crate for colours.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats an event over several lines.
pub(super) struct Pretty;

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        writeln!(writer, " {:>5} {}", metadata.level(), fields.message)?;
        write!(writer, "{}", fields.others)?;
        writeln!(writer, "      at {}", metadata.target())
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a String fails only if the value's own formatting does; the field is then cut there.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => writeln!(self.others, "      {name}: {value:?}"),
        };
    }
}
