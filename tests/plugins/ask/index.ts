// A plugin made with a compiler and an SDK that are not ours (AssemblyScript, @solo-io/proxy-runtime), as one would write it
// for Envoy. It asks the upstream that its configuration names whether a request may pass, and lets the request wait for the
// answer. `./build` makes `ask.wasm` of it.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, FilterHeadersStatusValues, GrpcStatusValues, HeaderPair, RootContext, WasmResultValues, continue_request,
  registerRootContext, send_local_response, stream_context,
} from "@solo-io/proxy-runtime";

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(String.UTF8.encode(name), String.UTF8.encode(value));
}

class AskRoot extends RootContext {
  createContext(context_id: u32): Context {
    return new Ask(context_id, this);
  }
}

class Ask extends Context {
  constructor(context_id: u32, root_context: AskRoot) {
    super(context_id, root_context);
  }

  onRequestHeaders(_headers: u32, _end: bool): FilterHeadersStatusValues {
    const user = stream_context.headers.request.get("x-user");
    const question = [
      pair(":method", "GET"), pair(":path", "/may"), pair(":authority", "ask.test"), pair("x-user", user),
    ];
    const asked = this.root_context.httpCall(
      this.root_context.getConfiguration(), question, new ArrayBuffer(0), [], 5000, this,
      (origin: Context, headers: u32, _size: usize, _trailers: u32): void => {
        const status = headers == 0 ? "none" : stream_context.headers.http_callback.get(":status");
        if (status == "200") {
          stream_context.headers.request.add("x-verdict", stream_context.headers.http_callback.get("x-verdict"));
          continue_request();
        } else {
          const body = String.UTF8.encode("the answer was " + status);
          send_local_response(403, "refused", body, [], GrpcStatusValues.Ok);
        }
      });
    if (asked != WasmResultValues.Ok) {
      const body = String.UTF8.encode("not asked: " + asked.toString());
      send_local_response(500, "not asked", body, [], GrpcStatusValues.Ok);
    }
    return FilterHeadersStatusValues.StopIteration;
  }
}

registerRootContext((context_id: u32) => { return new AskRoot(context_id); }, "ask");
