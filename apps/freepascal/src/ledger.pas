{ A ledger of records in a file, summed by threads, asked over TCP, with exceptions of every
  kind: what programs in Free Pascal do of a system. }
program ledger;

{$mode objfpc}{$H+}{$R+}{$Q+}

uses
  cthreads, Classes, SysUtils, Sockets, BaseUnix, Unix, fgl;

type
  TEntry = packed record
    Account: string[15];
    Amount: Int64;
    Day: Word;
  end;

  TSums = specialize TFPGMap<string, Int64>;

  ENoAccount = class(Exception);

  { Sums every Step-th entry from First on. }
  TAdder = class(TThread)
  private
    FFirst, FStep: Integer;
    procedure Add;
  protected
    procedure Execute; override;
  public
    constructor Create(AFirst, AStep: Integer);
  end;

  TServer = class(TThread)
  private
    FListener: cint;
    procedure Serve(Conn: cint);
  protected
    procedure Execute; override;
  public
    constructor Create(AListener: cint);
  end;

  { Fails in its own thread, where the exception is kept for who waits. }
  TFailing = class(TThread)
  protected
    procedure Execute; override;
  end;

const
  Path = '/tmp/ledger.dat';
  Entries = 3000;

var
  Sums: TSums;
  Lock: TRTLCriticalSection;
  AllDone: PRTLEvent;
  Running: LongInt;

threadvar
  Mine: Int64;

procedure WriteEntries;
var
  F: file of TEntry;
  E: TEntry;
  I: Integer;
begin
  AssignFile(F, Path);
  Rewrite(F);
  for I := 0 to Entries - 1 do
  begin
    E.Account := 'account' + IntToStr(I mod 7);
    E.Amount := (I * 37) mod 1000 - 300;
    E.Day := I mod 365;
    Write(F, E);
  end;
  Seek(F, 100);
  Read(F, E);
  E.Amount := E.Amount + 1000000;
  Seek(F, FilePos(F) - 1);
  Write(F, E);
  WriteLn('file of ', FileSize(F), ' entries, one is ', E.Account, ' ', E.Amount);
  CloseFile(F);
end;

constructor TAdder.Create(AFirst, AStep: Integer);
begin
  FFirst := AFirst;
  FStep := AStep;
  inherited Create(False);
end;

procedure TAdder.Add;
var
  Stream: TFileStream;
  E: TEntry;
  I, At: Integer;
begin
  Stream := TFileStream.Create(Path, fmOpenRead or fmShareDenyNone);
  try
    I := FFirst;
    while I < Entries do
    begin
      Stream.Position := Int64(I) * SizeOf(E);
      Stream.ReadBuffer(E, SizeOf(E));
      Mine := Mine + E.Amount;
      EnterCriticalSection(Lock);
      try
        At := Sums.IndexOf(E.Account);
        if At < 0 then
          Sums.Add(E.Account, E.Amount)
        else
          Sums.Data[At] := Sums.Data[At] + E.Amount;
      finally
        LeaveCriticalSection(Lock);
      end;
      Inc(I, FStep);
    end;
  finally
    Stream.Free;
  end;
end;

procedure TAdder.Execute;
begin
  Add;
  ReturnValue := Mine;
  if InterlockedDecrement(Running) = 0 then
    RTLEventSetEvent(AllDone);
end;

function Balance(const Account: string): Int64;
var
  At: Integer;
begin
  EnterCriticalSection(Lock);
  try
    At := Sums.IndexOf(Account);
    if At < 0 then
      raise ENoAccount.CreateFmt('no account %s', [Account]);
    Result := Sums.Data[At];
  finally
    LeaveCriticalSection(Lock);
  end;
end;

procedure Add;
var
  Adders: array[0..5] of TAdder;
  I: Integer;
  Total, Parts: Int64;
begin
  Running := Length(Adders);
  for I := 0 to High(Adders) do
    Adders[I] := TAdder.Create(I, Length(Adders));
  RTLEventWaitFor(AllDone);
  WriteLn('finished ', Running = 0);
  Parts := 0;
  for I := 0 to High(Adders) do
  begin
    Parts := Parts + LongInt(Adders[I].WaitFor);
    Adders[I].Free;
  end;
  Total := 0;
  for I := 0 to Sums.Count - 1 do
    Total := Total + Sums.Data[I];
  WriteLn('sum of ', Sums.Count, ' accounts ', Total, ', the same ', Total = Parts, ', here ', Mine);
end;

constructor TServer.Create(AListener: cint);
begin
  FListener := AListener;
  inherited Create(False);
end;

function GetLine(Conn: cint): string;
var
  C: Char;
begin
  Result := '';
  while (fpRecv(Conn, @C, 1, 0) = 1) and (C <> #10) do
    Result := Result + C;
end;

procedure PutLine(Conn: cint; const S: string);
var
  Text: string;
begin
  Text := S + #10;
  if fpSend(Conn, @Text[1], Length(Text), MSG_NOSIGNAL) <> Length(Text) then
    raise EInOutError.CreateFmt('send: %d', [SocketError]);
end;

procedure TServer.Serve(Conn: cint);
var
  Line: string;
begin
  repeat
    Line := GetLine(Conn);
    try
      if Line <> '' then
        PutLine(Conn, IntToStr(Balance(Line)));
    except
      on E: ENoAccount do
        PutLine(Conn, 'refused: ' + E.Message);
    end;
  until Line = '';
  CloseSocket(Conn);
end;

procedure TServer.Execute;
var
  I: Integer;
begin
  for I := 1 to 2 do
    Serve(fpAccept(FListener, nil, nil));
end;

procedure Network;
var
  Listener, Conn: cint;
  Address: TInetSockAddr;
  Len: TSockLen;
  Server: TServer;
  I: Integer;
begin
  Listener := fpSocket(AF_INET, SOCK_STREAM, 0);
  FillChar(Address, SizeOf(Address), 0);
  Address.sin_family := AF_INET;
  Address.sin_addr := StrToNetAddr('127.0.0.1');
  Len := SizeOf(Address);
  if (fpBind(Listener, @Address, Len) <> 0) or (fpListen(Listener, 4) <> 0) or (fpGetSockName(Listener, @Address, @Len) <> 0) then
    raise EInOutError.CreateFmt('listen: %d', [SocketError]);
  Server := TServer.Create(Listener);
  for I := 1 to 2 do
  begin
    Conn := fpSocket(AF_INET, SOCK_STREAM, 0);
    if fpConnect(Conn, @Address, Len) <> 0 then
      raise EInOutError.CreateFmt('connect: %d', [SocketError]);
    PutLine(Conn, 'account' + IntToStr(I));
    Write(GetLine(Conn) = IntToStr(Balance('account' + IntToStr(I))), ', ');
    PutLine(Conn, 'nobody');
    WriteLn(GetLine(Conn));
    CloseSocket(Conn);
  end;
  Server.WaitFor;
  Server.Free;
  CloseSocket(Listener);
end;

procedure TFailing.Execute;
begin
  Balance('nowhere');
end;

function Deep(N: Integer): Integer;
begin
  try
    if N = 0 then
      raise Exception.Create('from the bottom');
    Result := Deep(N - 1);
  finally
    Inc(Mine);
  end;
end;

procedure Exceptions;
var
  Failing: TFailing;
  Nowhere: ^Integer;
  Zero, N: Integer;
  Big: Int64;
  Small: array[0..3] of Byte;
  F: TextFile;
begin
  Mine := 0;
  try
    Deep(200);
  except
    on E: Exception do
      WriteLn(E.Message, ' through ', Mine, ' frames');
  end;
  Failing := TFailing.Create(False);
  Failing.WaitFor;
  WriteLn('a thread failed: ', (Failing.FatalException as Exception).Message);
  Failing.Free;
  Zero := ParamCount;
  try
    WriteLn(1 div Zero);
  except
    on E: EDivByZero do
      WriteLn(E.Message);
  end;
  try
    Nowhere := Pointer(PtrUInt(Zero + 16));
    WriteLn(Nowhere^);
  except
    on E: EAccessViolation do
      WriteLn(E.Message);
  end;
  N := Length(Small) + Zero;
  try
    Small[N] := 1;
  except
    on E: ERangeError do
      WriteLn(E.Message);
  end;
  Big := High(Int64) - Zero;
  try
    Big := Big + 1;
    WriteLn(Big);
  except
    on E: EIntOverflow do
      WriteLn(E.Message);
  end;
  try
    AssignFile(F, '/no/such/file');
    Reset(F);
  except
    on E: EInOutError do
      WriteLn('error ', E.ErrorCode);
  end;
  try
    WriteLn(StrToInt('seven'));
  except
    on E: EConvertError do
      WriteLn(E.Message);
  end;
end;

procedure Processes;
var
  Out: TextFile;
  Line: string;
  Pid: TPid;
  Status: cint;
begin
  if POpen(Out, 'echo from a shell; exit 4', 'R') <> 0 then
    raise EInOutError.Create('popen');
  ReadLn(Out, Line);
  WriteLn(Line, ' ', PClose(Out));
  Pid := FpFork;
  if Pid = 0 then
    repeat
      FpPause;
    until False;
  FpKill(Pid, SIGKILL);
  FpWaitPid(Pid, Status, 0);
  WriteLn('killed by ', WTERMSIG(Status));
end;

procedure Lists;
var
  List: TStringList;
  I: Integer;
  Found: TSearchRec;
begin
  List := TStringList.Create;
  try
    for I := 1 to 500 do
      List.Add(Format('line %.3d', [(I * 7919) mod 1000]));
    List.Sort;
    List.SaveToFile('/tmp/list.txt');
    List.Clear;
    List.LoadFromFile('/tmp/list.txt');
    WriteLn(List.Count, ' lines from ', List[0], ' to ', List[List.Count - 1]);
  finally
    List.Free;
  end;
  I := 0;
  if FindFirst('/tmp/l*', faAnyFile, Found) = 0 then
    repeat
      Inc(I);
    until FindNext(Found) <> 0;
  FindClose(Found);
  WriteLn(I, ' files, renamed ', RenameFile('/tmp/list.txt', '/tmp/other.txt'), ', deleted ', DeleteFile('/tmp/other.txt'), ' ', DeleteFile(Path));
end;

begin
  Sums := TSums.Create;
  InitCriticalSection(Lock);
  AllDone := RTLEventCreate;
  WriteEntries;
  Add;
  Network;
  Exceptions;
  Processes;
  Lists;
  RTLEventDestroy(AllDone);
  DoneCriticalSection(Lock);
  Sums.Free;
  Halt(6);
end.
