%% Two nodes of one machine: one starts a ring of processes on the other and sends a token
%% round it, runs a port program, and shows what comes back.
-module(ring).
-export([main/1, start/2, member/1]).

main([Other]) ->
    Node = list_to_atom(Other),
    io:format("ping ~p: ~p~n", [Node, wait(Node, 150)]),
    io:format("nodes ~p~n", [nodes()]),
    First = spawn(Node, ?MODULE, start, [self(), 1000]),
    First ! {token, 0},
    receive
        {token, N} -> io:format("the token passed ~b processes of ~p~n", [N, node(First)])
    after 60000 -> halt(2)
    end,
    io:format("a port says ~s", [os:cmd("echo $((6 * 7))")]),
    Zip = zlib:gunzip(zlib:gzip(binary:copy(<<"kiln">>, 100000))),
    io:format("schedulers ~b, ~b bytes, rpc ~p~n",
              [erlang:system_info(schedulers), byte_size(Zip), rpc:call(Node, erlang, node, [])]),
    rpc:call(Node, init, stop, []),
    init:stop().

wait(_, 0) -> pang;
wait(Node, Tries) ->
    case net_adm:ping(Node) of
        pong -> pong;
        pang -> timer:sleep(200), wait(Node, Tries - 1)
    end.

%% A ring of N processes; the last one's next is To.
start(To, N) when N > 1 ->
    Next = spawn_link(?MODULE, start, [To, N - 1]),
    member(Next);
start(To, 1) -> member(To).

member(Next) ->
    receive
        {token, N} -> Next ! {token, N + 1}
    end.
