-- | Words counted in files by threads, kept in transactional memory and asked over TCP, with
-- exceptions across threads and a heap that is collected: what programs in Haskell do of a system.
module Main (main) where

import Control.Concurrent
import Control.Concurrent.STM
import Control.Exception
import Control.Monad
import qualified Data.ByteString.Char8 as B
import Data.IORef
import Data.List (foldl', sort)
import qualified Data.Map.Strict as M
import Network.Socket
import Network.Socket.ByteString (recv, sendAll)
import System.Directory
import System.Environment (setEnv)
import System.Exit
import System.FilePath ((</>))
import System.IO
import System.IO.Error (isDoesNotExistError)
import System.Mem (performGC)
import System.Mem.Weak (deRefWeak)
import System.Process
import System.Timeout (timeout)

type Counts = TVar (M.Map B.ByteString Int)

-- | What each of the threads gives, or the exception that the first of them failed with.
concurrently :: [IO a] -> IO [a]
concurrently actions = do
  results <- forM actions $ \action -> do
    result <- newEmptyMVar
    _ <- forkFinally action (putMVar result)
    pure result
  forM results $ takeMVar >=> either throwIO pure

writeTexts :: FilePath -> IO ()
writeTexts dir = do
  createDirectoryIfMissing True dir
  forM_ [1 .. 20 :: Int] $ \i ->
    writeFile (dir </> "text" ++ show i) $
      unlines [unwords ["word" ++ show ((i * j * k) `mod` 53) | k <- [1 .. 10]] | j <- [1 .. 30 :: Int]]

countFile :: Counts -> FilePath -> IO Int
countFile counts file = do
  ws <- B.words <$> B.readFile file
  forM_ ws $ \w -> atomically $ modifyTVar' counts (M.insertWith (+) w 1)
  pure (length ws)

serve :: Counts -> Socket -> IO ()
serve counts listener = forM_ [1 .. 3 :: Int] $ \_ -> do
  (conn, _) <- accept listener
  forkFinally (client conn) (const (close conn))
  where
    client conn = do
      request <- recv conn 100
      unless (B.null request) $ do
        known <- readTVarIO counts
        sendAll conn $ maybe (B.pack "unknown") (B.pack . show) (M.lookup (B.filter (/= '\n') request) known)
        client conn

network :: Counts -> IO ()
network counts = bracket (socket AF_INET Stream defaultProtocol) close $ \listener -> do
  bind listener (SockAddrInet 0 (tupleToHostAddress (127, 0, 0, 1)))
  listen listener 10
  address <- getSocketName listener
  _ <- forkIO (serve counts listener)
  answers <- concurrently . replicate 3 $ bracket (socket AF_INET Stream defaultProtocol) close $ \s -> do
    connect s address
    forM ["word7\n", "nothing\n"] $ \word -> sendAll s (B.pack word) >> recv s 100
  forM_ answers $ \answer -> putStrLn $ "over tcp: " ++ unwords (map B.unpack answer)

data Broke = Broke Int deriving (Show)

instance Exception Broke

exceptions :: IO ()
exceptions = do
  failed <- try (concurrently [when (i == 7) (throwIO (Broke i)) >> pure i | i <- [1 .. 20]])
  putStrLn $ either (\e -> "a thread failed: " ++ show (e :: Broke)) show failed
  lazily <- try (evaluate (foldr (\x acc -> if x > 99999 then 1 `div` 0 else x + acc) 0 [1 .. 100000 :: Int]))
  putStrLn $ either (\e -> "lazily: " ++ show (e :: ArithException)) show lazily
  gone <- tryJust (guard . isDoesNotExistError) (readFile "/no/such/file")
  putStrLn $ either (const "no such file") id gone
  never <- newEmptyMVar :: IO (MVar ())
  stuck <- try (takeMVar never)
  putStrLn $ either (\e -> show (e :: BlockedIndefinitelyOnMVar)) show stuck
  late <- timeout 50000 (forever (threadDelay 10000) :: IO ())
  putStrLn $ "timed out " ++ show (late == Nothing)
  cleaned <- newIORef False
  started <- newEmptyMVar
  ended <- newEmptyMVar
  thread <- forkIOWithUnmask $ \unmask ->
    (unmask (putMVar started () >> forever (threadDelay 1000000)) `finally` writeIORef cleaned True)
      `catch` \e -> putMVar ended (show (e :: AsyncException))
  takeMVar started
  killThread thread
  why <- takeMVar ended
  done <- readIORef cleaned
  putStrLn $ why ++ ", cleaned " ++ show done

threads :: IO ()
threads = do
  tokens <- newTVarIO (0 :: Int)
  seen <- newTVarIO (0 :: Int)
  -- Each thread waits for its turn, so that it is the scheduler that is tried.
  _ <- concurrently [forM_ [0 .. 4] $ \turn -> atomically $ do
    t <- readTVar tokens
    check (t == turn * 200 + i)
    writeTVar tokens (t + 1)
    modifyTVar' seen (+ i) | i <- [0 .. 199]]
  sums <- (,) <$> readTVarIO tokens <*> readTVarIO seen
  putStrLn $ "200 threads took turns " ++ show sums
  primes <- concurrently [evaluate (length (filter prime [from, from + 4 .. 20000])) | from <- [2 .. 5 :: Int]]
  putStrLn $ show (sum primes) ++ " primes on " ++ (if rtsSupportsBoundThreads then "system threads" else "one thread")
  bound <- newEmptyMVar
  _ <- forkOS (isCurrentThreadBound >>= putMVar bound)
  takeMVar bound >>= putStrLn . ("bound " ++) . show
  where
    prime n = all (\d -> n `mod` d /= 0) (takeWhile (\d -> d * d <= n) [2 ..])

garbage :: IO ()
garbage = do
  let tree = foldl' (\m i -> M.insert ((i * 7919) `mod` 100003) i m) M.empty [1 .. 60000 :: Int]
  kept <- evaluate (M.size tree)
  finalized <- newEmptyMVar
  weak <- do
    ref <- newIORef (replicate 1000 'x')
    mkWeakIORef ref (putMVar finalized ())
  performGC
  _ <- timeout 5000000 (takeMVar finalized)
  alive <- deRefWeak weak
  let total = foldl' (+) 0 (M.elems tree)
  putStrLn $ "kept " ++ show (kept, total) ++ ", finalized " ++ maybe "True" (const "False") alive

processes :: IO ()
processes = do
  setEnv "NAME" "Haskell"
  (status, out, err) <- readProcessWithExitCode "/bin/sh" ["-c", "read x; echo \"$x from $NAME\"; echo oops >&2; exit 3"] "a line\n"
  putStrLn $ show status ++ " " ++ show out ++ " " ++ show err
  child <- spawnProcess "/bin/sh" ["-c", "while :; do :; done"]
  terminateProcess child
  waitForProcess child >>= putStrLn . ("terminated: " ++) . show
  missing <- try (readProcess "/no/such/program" [] "")
  putStrLn $ either (\e -> "missing " ++ show (isDoesNotExistError e)) id missing

main :: IO ()
main = do
  hSetBuffering stdout LineBuffering
  dir <- (</> "texts") <$> getTemporaryDirectory
  writeTexts dir
  counts <- newTVarIO M.empty
  files <- sort <$> listDirectory dir
  total <- sum <$> concurrently [countFile counts (dir </> f) | f <- files]
  different <- M.size <$> readTVarIO counts
  putStrLn $ show total ++ " words in " ++ show (length files) ++ " files, " ++ show different ++ " different"
  network counts
  exceptions
  threads
  garbage
  processes
  withFile (dir </> "log") ReadWriteMode $ \h -> do
    hPutStr h "first\nsecond\n"
    hSeek h AbsoluteSeek 6
    hGetLine h >>= putStrLn . ("sought " ++)
  removeDirectoryRecursive dir
  doesPathExist dir >>= putStrLn . ("removed " ++) . show . not
  exitWith (ExitFailure 12)
