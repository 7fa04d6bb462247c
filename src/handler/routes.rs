//! From a request head to whoever answers it: the application's const tables, then the config's routes, then the answers
//! that the server gives itself (404, 405, `OPTIONS`, `CONNECT`).

use super::pipeline::{Going, Inner, Pipeline};
use super::{Action, Answer, Context, Exchange, Handler, Pace, PredicateSet, Reply, Response};
use std::sync::Arc;

use crate::http::target::TargetForm;
use crate::http::{Method, MethodSet, RequestHead, Status};
use crate::router::{self, Lookup, Params, RouteId, RouteInfo, RouteTable, Router, RouterBuf, Spans};

/// Which route answered, as metrics count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteIndex(u32);

impl RouteIndex {
    /// No route: what the server answers itself. It is counted under an index behind all routes.
    pub const NONE: RouteIndex = RouteIndex(u32::MAX);

    /// The index; `usize::MAX` for [`RouteIndex::NONE`].
    pub const fn get(self) -> usize {
        if self.0 == u32::MAX { usize::MAX } else { self.0 as usize }
    }
}

/// What is known of a route besides its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteName {
    /// Host and pattern, as metrics and logs show them.
    pub label: String,
    /// `respond`, `files`, … or `application`.
    pub kind: &'static str,
}

/// All routes of one generation, immutable and shared by every core.
pub struct Routes {
    tables: Vec<&'static RouteTable<Action>>,
    config: RouterBuf,
    own: Vec<OwnRoute>,
    /// Those of the tables in their order, then the config's.
    names: Vec<RouteName>,
    /// The plugins of requests to routes that are not the config's, and of those that the server answers itself.
    globals: Option<Arc<dyn Pipeline>>,
    /// Whether some of them want to see requests before they are routed.
    has_pre_route: bool,
}

/// A route of the config.
struct OwnRoute {
    handler: Box<dyn Handler>,
    /// Beside the handler, which is read in any case: whether there are conditions costs a route without them one branch
    /// on memory that is at hand.
    predicates: Option<Box<PredicateSet>>,
    /// Its plugins, the global ones among them.
    plugins: Option<Arc<dyn Pipeline>>,
}

/// Who answers a request.
pub struct Found<'r> {
    index: RouteIndex,
    params: Params<'r>,
    goal: Goal<'r>,
    plugins: Option<&'r dyn Pipeline>,
}

enum Goal<'r> {
    Handler(&'r dyn Handler),
    /// `OPTIONS` for a path that has routes, none of which takes it.
    Options(MethodSet),
    /// `OPTIONS *`: the server as a whole.
    ServerOptions,
    MethodNotAllowed(MethodSet),
    NotFound,
    Connect,
}

impl Routes {
    /// Routes in the order in which they are asked: `tables`, then `config` with a handler and a name for each route.
    pub fn new(
        tables: &[&'static RouteTable<Action>],
        config: RouterBuf,
        handlers: Vec<Box<dyn Handler>>,
        config_names: Vec<RouteName>,
    ) -> Self {
        let mut names = Vec::new();
        for table in tables {
            names.extend(table_names(table.router()));
        }
        names.extend(config_names);
        let own = handlers.into_iter().map(|handler| OwnRoute { handler, predicates: None, plugins: None });
        Self { tables: tables.to_vec(), config, own: own.collect(), names, globals: None, has_pre_route: false }
    }

    /// With these plugins: `globals` for all requests but those of the config's routes, which have their own in their
    /// order, the global ones among them.
    #[must_use]
    pub fn with_plugins(
        mut self,
        globals: Option<Arc<dyn Pipeline>>,
        routes: impl IntoIterator<Item = Option<Arc<dyn Pipeline>>>,
    ) -> Self {
        for (route, plugins) in self.own.iter_mut().zip(routes) {
            route.plugins = plugins;
        }
        self.has_pre_route = globals.as_ref().is_some_and(|globals| globals.has_pre_route());
        self.globals = globals;
        self
    }

    /// The plugins that see a request before it is routed.
    #[inline]
    pub fn pre_route(&self) -> Option<&dyn Pipeline> {
        if self.has_pre_route { self.globals.as_deref() } else { None }
    }

    /// Nobody's: a request that was answered before it was routed.
    pub fn unrouted(&self) -> Found<'_> {
        self.own_answer(Goal::NotFound)
    }

    #[inline]
    fn own_answer<'r>(&'r self, goal: Goal<'r>) -> Found<'r> {
        Found { index: RouteIndex::NONE, params: Params::NONE, goal, plugins: self.globals.as_deref() }
    }

    fn refused(&self, method: Method, allow: MethodSet) -> Found<'_> {
        self.own_answer(if method == Method::Options { Goal::Options(allow) } else { Goal::MethodNotAllowed(allow) })
    }

    #[inline]
    fn own_route<'r>(
        &'r self,
        route: &'r OwnRoute,
        found: &router::Found<'r>,
        spans: &'r Spans,
        base: u32,
    ) -> Found<'r> {
        Found {
            index: RouteIndex(base + found.route.0),
            params: found.params(spans),
            goal: Goal::Handler(&*route.handler),
            plugins: route.plugins.as_deref(),
        }
    }

    /// With these conditions of the config's routes, in their order. A route has some exactly where its
    /// [`Predicates`](crate::router::Predicates) are not `NONE`.
    #[must_use]
    pub fn with_predicates(mut self, predicates: impl IntoIterator<Item = Option<PredicateSet>>) -> Self {
        for (route, predicates) in self.own.iter_mut().zip(predicates) {
            route.predicates = predicates.map(Box::new);
        }
        self
    }

    /// The conditions of a route, by [`RouteIndex`].
    pub fn predicates(&self, index: usize) -> Option<&PredicateSet> {
        let before = self.names.len().saturating_sub(self.own.len());
        self.own.get(index.checked_sub(before)?)?.predicates.as_deref()
    }

    /// What is known of each route, by [`RouteIndex`].
    pub fn describe(&self) -> impl Iterator<Item = (RouteInfo<'_>, &RouteName)> {
        let routers = self.tables.iter().map(|table| table.router()).chain([self.config.as_router()]);
        let infos =
            routers.flat_map(|router| (0..router.len() as u32).filter_map(move |index| router.route(RouteId(index))));
        infos.zip(&self.names)
    }

    /// The names of all routes, by [`RouteIndex`].
    pub fn names(&self) -> &[RouteName] {
        &self.names
    }

    /// Who answers a request with this head. The first table that knows the path decides, then among the config's routes
    /// for the path and method the first one whose conditions hold. `spans` is overwritten; the parameters stay in it.
    #[inline]
    pub fn find<'r>(&'r self, head: &RequestHead<'_>, spans: &'r mut Spans) -> Found<'r> {
        match head.form() {
            TargetForm::Origin | TargetForm::Absolute if head.path_bytes().first() == Some(&b'/') => {}
            TargetForm::Authority => return self.own_answer(Goal::Connect),
            _ => return self.own_answer(Goal::ServerOptions),
        }
        let (host, path, method) = (head.host_bytes(), head.path_bytes(), head.method());
        let mut base = 0;
        for table in &self.tables {
            let table: &'static RouteTable<Action> = table;
            match table.lookup(host, path, method, spans) {
                Lookup::Found(found) => {
                    let Some(handler) = table.handler(found.route) else { break };
                    return Found {
                        index: RouteIndex(base + found.route.0),
                        params: found.params(spans),
                        goal: Goal::Handler(handler),
                        plugins: self.globals.as_deref(),
                    };
                }
                Lookup::MethodNotAllowed(allow) => return self.refused(method, allow),
                Lookup::NotFound => base += table.router().len() as u32,
            }
        }
        match self.config.lookup(host, path, method, spans) {
            Lookup::Found(found) => match self.own.get(found.route.index()) {
                Some(route) if route.predicates.is_none() => self.own_route(route, &found, spans, base),
                Some(_) => self.find_by_predicates(found, head, spans, base),
                None => self.own_answer(Goal::NotFound),
            },
            Lookup::MethodNotAllowed(allow) => self.refused(method, allow),
            Lookup::NotFound => self.own_answer(Goal::NotFound),
        }
    }

    /// The first of the candidates whose conditions hold. Where none of them does, the request has no route: 404, as if
    /// the candidates were not there.
    #[inline(never)]
    fn find_by_predicates<'r>(
        &'r self,
        first: router::Found<'r>,
        head: &RequestHead<'_>,
        spans: &'r Spans,
        base: u32,
    ) -> Found<'r> {
        let mut candidate = Some(first);
        while let Some(found) = candidate {
            match self.own.get(found.route.index()) {
                Some(route) if route.predicates.as_ref().is_none_or(|set| set.holds(head)) => {
                    return self.own_route(route, &found, spans, base);
                }
                _ => candidate = found.next_candidate(),
            }
        }
        self.own_answer(Goal::NotFound)
    }
}

fn table_names(router: Router<'static>) -> impl Iterator<Item = RouteName> {
    (0..router.len() as u32).filter_map(move |index| {
        let route = router.route(RouteId(index))?;
        let label = format!("{}{}", route.host.unwrap_or_default(), route.pattern);
        Some(RouteName { label, kind: "application" })
    })
}

impl<'r> Found<'r> {
    /// Which route it is.
    pub fn index(&self) -> RouteIndex {
        self.index
    }

    /// The parameters that the router found in the path.
    pub fn params(&self) -> Params<'r> {
        self.params
    }
}

impl<'r> Found<'r> {
    /// The plugins that it goes through.
    #[inline]
    pub fn plugins(&self) -> Option<&'r dyn Pipeline> {
        self.plugins
    }
}

impl Found<'_> {
    /// Whether the request is answered at once, and how it goes through plugins.
    #[inline]
    pub fn pace(&self, head: &RequestHead<'_>, context: &Context) -> (Pace, Going) {
        let own = match self.goal {
            Goal::Handler(handler) => handler.pace(),
            _ => Pace::Immediate,
        };
        match self.plugins {
            None => (own, Going::AtOnce),
            Some(plugins) => match plugins.going(head, context) {
                Going::AtOnce => (own, Going::AtOnce),
                Going::Answers => (Pace::Immediate, Going::Answers),
                Going::Suspends => (Pace::Suspending, Going::Suspends),
            },
        }
    }

    /// Answers the exchange.
    #[inline]
    pub fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        match self.plugins {
            None => self.answer(exchange),
            Some(plugins) => plugins.handle(self, exchange),
        }
    }
}

impl Inner for Found<'_> {
    #[inline]
    fn answer<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        match &self.goal {
            Goal::Handler(handler) => handler.handle(exchange),
            own => Answer::Now(own.answer(&mut exchange.response)),
        }
    }
}

impl Goal<'_> {
    /// The server's own answers.
    #[cold]
    fn answer(&self, response: &mut Response<'_>) -> Reply {
        match self {
            Goal::Handler(_) => Ok(()),
            Goal::Options(allow) => {
                response.status(Status::NO_CONTENT).field("Allow", allow.allow_value())?;
                response.send(b"")
            }
            // RFC 9110 section 9.3.7: about the server in general; what its routes take is not one answer.
            Goal::ServerOptions => response.status(Status::NO_CONTENT).send(b""),
            Goal::MethodNotAllowed(allow) => {
                response.field("Allow", allow.allow_value())?;
                response.problem(Status::METHOD_NOT_ALLOWED, "this resource does not take this method")
            }
            Goal::NotFound => response.problem(Status::NOT_FOUND, "no route matches this path"),
            Goal::Connect => response.problem(Status::NOT_IMPLEMENTED, "this server is no forward proxy"),
        }
    }
}
