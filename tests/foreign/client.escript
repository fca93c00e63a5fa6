#!/usr/bin/env escript
%% A minimal switchboard client: escript client.escript HOST PORT NAME PEER TEXT
-mode(compile).

-define(HELLO, 16#01). -define(WELCOME, 16#02). -define(ERROR, 16#04). -define(GOODBYE, 16#05).
-define(PING, 16#06). -define(PONG, 16#07). -define(SEND, 16#10). -define(RECEIPT, 16#12).
-define(WHO, 16#23). -define(SNAPSHOT, 16#21).
-define(CLIENT, 16#1002). -define(PAYLOAD_MAX, 16#1003). -define(CODE, 16#1008). -define(STAGE, 16#100A).
-define(NAME, 16#2001). -define(TEXT, 16#2005). -define(MEMBER, 16#4001).

main([Host, Port, Name, Peer, Text]) ->
    {ok, Socket} = gen_tcp:connect(Host, list_to_integer(Port),
                                   [binary, {packet, 4}, {packet_size, 24 + 4096}, {active, false}]),
    send(Socket, ?HELLO, 0, 0, 1, 0, [<<"SWBD", 1, 1, 0:16>>, name(Name)]),
    Welcome = fields(await(Socket, ?WELCOME, 1)),
    ok = inet:setopts(Socket, [{packet_size, 24 + maps:get(?PAYLOAD_MAX, Welcome)}]),
    io:format("welcome ~16.16.0b~n", [maps:get(?CLIENT, Welcome)]),
    send(Socket, ?WHO, 0, 0, 2, 0, name(Peer)),
    Member = fields(maps:get(?MEMBER, fields(await(Socket, ?SNAPSHOT, 2)))),
    Id = maps:get(?CLIENT, Member),
    io:format("peer ~16.16.0b~n", [Id]),
    send(Socket, ?SEND, 1, 1, 3, Id, utf8(Text)),  % flags RECEIPT, kind TEXT
    io:format("receipt ~b~n", [maps:get(?STAGE, fields(await(Socket, ?RECEIPT, 3)))]),
    send(Socket, ?GOODBYE, 0, 0, 4, 0, <<>>),
    drain(Socket);
main(_) ->
    fail("usage: client.escript HOST PORT NAME PEER TEXT", []).

%% {packet, 4} writes the length.
send(Socket, Type, Flags, Kind, Correlation, Destination, Payload) ->
    ok = gen_tcp:send(Socket, [<<Type, Flags, Kind:16, Correlation:32, Destination:64, 0:64>>, Payload]).

%% The body of the frame with this type and correlation. PINGs are answered, whatever else comes is ignored.
await(Socket, Type, Correlation) ->
    case gen_tcp:recv(Socket, 0, 60000) of
        {ok, <<Type, _Flags, _Kind:16, Correlation:32, _To:64, _From:64, Body/binary>>} ->
            Body;
        {ok, <<?PING, _Flags, _Kind:16, Number:32, _To:64, From:64, _/binary>>} ->
            send(Socket, ?PONG, 0, 0, Number, From, <<>>),
            await(Socket, Type, Correlation);
        {ok, <<Last, _Flags, _Kind:16, _Number:32, _To:64, _From:64, Body/binary>>}
          when Last =:= ?ERROR; Last =:= ?GOODBYE ->
            Why = fields(Body),
            fail("error ~b: ~ts", [maps:get(?CODE, Why, 0), maps:get(?TEXT, Why, <<>>)]);
        {ok, <<_:24/binary, _/binary>>} ->
            await(Socket, Type, Correlation);
        Other ->
            fail("the connection failed: ~p", [Other])
    end.

drain(Socket) ->
    case gen_tcp:recv(Socket, 0, 10000) of
        {ok, _} -> drain(Socket);
        {error, closed} -> io:format("done~n");
        {error, Reason} -> fail("no end of stream: ~p", [Reason])
    end.

fields(<<>>) -> #{};
fields(<<1:4, Tag:12, 8:16, Value:64, Rest/binary>>) -> maps:merge(#{16#1000 + Tag => Value}, fields(Rest));
fields(<<Tag:16, Length:16, Value:Length/binary, Rest/binary>>) -> maps:merge(#{Tag => Value}, fields(Rest)).

name(Name) ->
    Bytes = utf8(Name),
    <<?NAME:16, (byte_size(Bytes)):16, Bytes/binary>>.

utf8(Argument) -> unicode:characters_to_binary(Argument).

fail(Format, Arguments) ->
    io:format(standard_error, Format ++ "~n", Arguments),
    halt(1).
