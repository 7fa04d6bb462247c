// A plugin made with a compiler and an SDK that are not ours (AssemblyScript, @solo-io/proxy-runtime), as one would write it
// for Envoy. It stamps requests and responses with its configuration, tells what it knows of the request, and answers
// /forbidden itself. `./build` makes `stamp.wasm` of it.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, FilterHeadersStatusValues, GrpcStatusValues, HeaderPair, LogLevelValues, RootContext, log, registerRootContext,
  send_local_response, stream_context,
} from "@solo-io/proxy-runtime";

class StampRoot extends RootContext {
  createContext(context_id: u32): Context {
    return new Stamp(context_id, this);
  }
}

class Stamp extends Context {
  constructor(context_id: u32, root_context: StampRoot) {
    super(context_id, root_context);
  }

  onRequestHeaders(_headers: u32, _end: bool): FilterHeadersStatusValues {
    const request = stream_context.headers.request;
    const path = request.get(":path");
    if (path == "/forbidden") {
      const body = String.UTF8.encode("stamped out\n");
      const fields: HeaderPair[] = [new HeaderPair(String.UTF8.encode("x-stamp"), String.UTF8.encode("refused"))];
      send_local_response(403, "forbidden", body, fields, GrpcStatusValues.Ok);
      return FilterHeadersStatusValues.StopIteration;
    }
    request.add("x-stamp", this.root_context.getConfiguration());
    request.replace("x-method", request.get(":method"));
    request.remove("x-secret");
    return FilterHeadersStatusValues.Continue;
  }

  onResponseHeaders(_headers: u32, _end: bool): FilterHeadersStatusValues {
    const response = stream_context.headers.response;
    response.add("x-stamp", this.root_context.getConfiguration() + " " + response.get(":status"));
    return FilterHeadersStatusValues.Continue;
  }

  onLog(): void {
    log(LogLevelValues.debug, "stamped " + stream_context.headers.request.get(":path"));
  }
}

registerRootContext((context_id: u32) => { return new StampRoot(context_id); }, "stamp");
