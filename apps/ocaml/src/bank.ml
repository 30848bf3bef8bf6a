(* A bank: a parser and interpreter of transfers, run by threads, kept in a journal that
   survives, and asked over a socket: what programs in OCaml do of a system. *)

exception Refused of string

type command =
  | Open of string * int
  | Transfer of { from : string; into : string; amount : int }
  | Ask of string

module Accounts = Map.Make (String)

let parse line =
  match String.split_on_char ' ' (String.trim line) with
  | [ "open"; name; amount ] -> Open (name, int_of_string amount)
  | [ "move"; from; into; amount ] -> Transfer { from; into; amount = int_of_string amount }
  | [ "ask"; name ] -> Ask name
  | _ -> raise (Refused ("what is " ^ line))

let balance name accounts =
  match Accounts.find_opt name accounts with
  | Some b -> b
  | None -> raise (Refused ("no account " ^ name))

let apply accounts = function
  | Open (name, amount) -> Accounts.add name amount accounts
  | Transfer { from; into; amount } ->
      let b = balance from accounts in
      if b < amount then raise (Refused (Printf.sprintf "%s has %d" from b));
      accounts |> Accounts.add from (b - amount) |> Accounts.update into (Option.map (( + ) amount))
  | Ask name ->
      ignore (balance name accounts);
      accounts

let state = ref Accounts.empty
let mu = Mutex.create ()
let journal = Filename.concat (Filename.get_temp_dir_name ()) "journal"

let locked f =
  Mutex.lock mu;
  Fun.protect ~finally:(fun () -> Mutex.unlock mu) f

let execute out line =
  locked (fun () ->
      let command = parse line in
      state := apply !state command;
      match command with
      | Ask name -> string_of_int (balance name !state)
      | Open _ | Transfer _ ->
          output_string out (line ^ "\n");
          "done")

let answer out line = try execute out line with Refused why -> "refused: " ^ why | Failure _ -> "refused: no number"

let serve out listener clients =
  let client fd =
    let input = Unix.in_channel_of_descr fd and output = Unix.out_channel_of_descr fd in
    (try
       while true do
         output_string output (answer out (input_line input) ^ "\n");
         flush output
       done
     with End_of_file -> ());
    close_out output
  in
  List.init clients (fun _ -> Thread.create client (fst (Unix.accept listener))) |> List.iter Thread.join

let ask address lines =
  let input, output = Unix.open_connection address in
  List.map
    (fun line ->
      output_string output (line ^ "\n");
      flush output;
      input_line input)
    lines
  |> fun answers ->
  Unix.shutdown_connection input;
  close_in input;
  answers

let network out =
  let listener = Unix.socket Unix.PF_INET Unix.SOCK_STREAM 0 in
  Unix.bind listener (Unix.ADDR_INET (Unix.inet_addr_loopback, 0));
  Unix.listen listener 10;
  let address = Unix.getsockname listener in
  let server = Thread.create (fun () -> serve out listener 3) () in
  ask address [ "open ann 100"; "open bob 50"; "move ann bob 30"; "ask bob" ] |> String.concat ", " |> print_endline;
  ask address [ "move ann bob 300"; "ask carl"; "move ann bob x"; "dance" ] |> List.iter print_endline;
  ask address [ "ask ann" ] |> List.iter print_endline;
  Thread.join server;
  Unix.close listener

let threads out =
  ignore (answer out "open a 1000");
  ignore (answer out "open b 1000");
  let work i =
    for k = 1 to 250 do
      let from, into = if (i + k) mod 2 = 0 then ("a", "b") else ("b", "a") in
      ignore (answer out (Printf.sprintf "move %s %s %d" from into (k mod 7)));
      if k mod 50 = 0 then Thread.yield ()
    done
  in
  List.init 8 (Thread.create work) |> List.iter Thread.join;
  Printf.printf "threads: %d in all\n%!" (balance "a" !state + balance "b" !state)

let replay () =
  let input = open_in journal in
  let rec go accounts n =
    match input_line input with
    | line -> go (apply accounts (parse line)) (n + 1)
    | exception End_of_file -> (accounts, n)
  in
  let accounts, n = Fun.protect ~finally:(fun () -> close_in input) (fun () -> go Accounts.empty 0) in
  Printf.printf "journal: %d lines, the same %b\n%!" n (Accounts.equal ( = ) accounts !state);
  let saved = journal ^ ".bin" in
  let output = open_out_bin saved in
  Marshal.to_channel output (Accounts.bindings accounts) [];
  close_out output;
  let input = open_in_bin saved in
  let back : (string * int) list = Marshal.from_channel input in
  close_in input;
  Printf.printf "marshalled: %d accounts, the same %b\n%!" (List.length back) (back = Accounts.bindings accounts)

type tree = Leaf | Node of tree * tree

let garbage () =
  let rec grow d = if d = 0 then Leaf else Node (grow (d - 1), grow (d - 1)) in
  let rec count = function Leaf -> 1 | Node (a, b) -> count a + count b in
  let kept = grow 14 in
  let finalised = Atomic.make 0 in
  let total = ref 0 in
  for _ = 1 to 600 do
    let t = ref (grow 11) in
    Gc.finalise (fun _ -> Atomic.incr finalised) t;
    total := !total + count !t
  done;
  Gc.compact ();
  let s = Gc.quick_stat () in
  Printf.printf "collected: %d leaves, %d kept, finalised %b, collections %b\n%!" !total (count kept)
    (Atomic.get finalised > 500) (s.minor_collections > 10 && s.major_collections > 0)

let rec deep n = if n = 0 then 0 else 1 + deep (n - 1)

let processes () =
  let out, into = Unix.open_process "read x; echo $x from a shell; exit 5" in
  output_string into "word\n";
  flush into;
  print_endline (input_line out);
  (match Unix.close_process (out, into) with
  | Unix.WEXITED n -> Printf.printf "status %d\n%!" n
  | Unix.WSIGNALED _ | Unix.WSTOPPED _ -> print_endline "killed");
  match Unix.fork () with
  | 0 -> Unix.pause (); exit 0
  | pid -> (
      Unix.kill pid Sys.sigkill;
      match Unix.waitpid [] pid with
      | _, Unix.WSIGNALED s -> Printf.printf "killed %b\n%!" (s = Sys.sigkill)
      | _ -> print_endline "not killed")

let signals () =
  let caught = ref 0 in
  Sys.set_signal Sys.sigalrm (Sys.Signal_handle (fun _ -> incr caught));
  ignore (Unix.setitimer Unix.ITIMER_REAL { it_value = 0.01; it_interval = 0.01 });
  while !caught < 3 do
    (try ignore (Unix.select [] [] [] 0.05) with Unix.Unix_error (Unix.EINTR, _, _) -> ())
  done;
  ignore (Unix.setitimer Unix.ITIMER_REAL { it_value = 0.; it_interval = 0. });
  Printf.printf "timer %b\n%!" (!caught >= 3);
  (try ignore (Unix.openfile "/no/such/file" [ Unix.O_RDONLY ] 0)
   with Unix.Unix_error (e, call, _) -> Printf.printf "%s: %s\n%!" call (Unix.error_message e));
  (try ignore (deep 100_000_000) with Stack_overflow -> print_endline "stack overflow caught")

let () =
  Sys.set_signal Sys.sigpipe Sys.Signal_ignore;
  let out = open_out journal in
  network out;
  threads out;
  close_out out;
  replay ();
  garbage ();
  processes ();
  signals ();
  at_exit (fun () -> print_endline "ended");
  exit 9
